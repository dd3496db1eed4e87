"""One line of an attempt: made so that every store takes it, and shown without what must not be seen."""

import math
from typing import Any, Final

from msgspec import Raw

from chassis.secret import REDACTED, Secret, redact
from contracts.limits import LOG_FIELD_CHARS, LOG_FIELDS, LOG_TEXT_CHARS
from contracts.logs import LogLevel, LogLine, Missing
from executor.redaction import Redaction

_NAME_CHARS: Final = 64


def made(time: float, level: LogLevel, text: Any, fields: dict[str, Any]) -> LogLine:
    """At most twice as long as it may be shown: what is secret is blanked out before it is cut."""
    said, cut = _fit(text, 2 * LOG_TEXT_CHARS)
    kept: dict[str, Any] = {}
    for name, value in list(fields.items())[:LOG_FIELDS]:
        short, lost = _fit(name, 2 * _NAME_CHARS)
        kept[short], more = _plain(value)
        cut += lost + more
    return LogLine(
        time=time, level=level, text=said, fields=kept, missing=_missing(cut, len(fields) - LOG_FIELDS)
    )


def shown(line: LogLine, blank: Redaction) -> LogLine:
    """The line without what must not be seen, as long as it may be. What it lacks then is said beside it."""
    plain = redact(None, "", {"text": line.text} | {f"/{name}": value for name, value in line.fields.items()})
    hidden = redact(None, "", dict(line.fields))
    text, cut = _shortened(blank, plain["text"], LOG_TEXT_CHARS)
    fields: dict[str, Any] = {}
    for name in line.fields:
        short, lost = _shortened(blank, name, _NAME_CHARS)
        value = REDACTED if hidden[name] == REDACTED else plain[f"/{name}"]
        fields[short], more = _blanked(blank, value)
        cut += lost + more
    before = line.missing
    if before is not None and before.why != "line":
        missing: Missing | None = before
    else:
        missing = _missing(cut + (before.chars if before else 0), before.fields if before else 0)
    return LogLine(time=line.time, level=line.level, text=text, fields=fields, missing=missing)


def _missing(chars: int, fields: int) -> Missing | None:
    return Missing(why="line", chars=chars, fields=max(0, fields)) if chars or fields > 0 else None


def _blanked(blank: Redaction, value: Any) -> tuple[Any, int]:
    """A number that is a secret is one too. And how much of it was cut."""
    if value is None or isinstance(value, bool):
        return value, 0
    text = str(value)
    short, cut = _shortened(blank, text, LOG_FIELD_CHARS)
    return (value if short == text else short), cut


def _shortened(blank: Redaction, text: str, most: int) -> tuple[str, int]:
    """First blanked, then cut: half a secret would not be known as one. The text itself may have been cut before."""
    whole = blank.text(text)
    short = whole[: max(0, len(whole) - blank.longest)] if len(text) >= 2 * most else whole
    if len(short) > most:
        short = short[: most - 1]
    cut = len(whole) - len(short)
    return (short + "…" if cut else short), cut


def _plain(value: Any) -> tuple[Any, int]:
    """A scalar that JSON can say; of anything else its text. And how much of it was cut."""
    if value is None or isinstance(value, bool | Secret):
        return (REDACTED if isinstance(value, Secret) else value), 0
    if isinstance(value, int) and abs(value) < 2**53:
        return value, 0
    if isinstance(value, float) and math.isfinite(value):
        return value, 0
    return _fit(
        bytes(value).decode(errors="replace") if isinstance(value, Raw | bytes) else value,
        2 * LOG_FIELD_CHARS,
    )


def _fit(text: Any, most: int) -> tuple[str, int]:
    """Text that every store takes, not longer than this, and how much of it was cut."""
    try:
        written = str(text)
    except Exception as error:  # A stranger's object, or a number of too many digits.
        written = f"({type(text).__name__}: {type(error).__name__})"
    whole = written[:most].encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    return whole.replace("\0", "\N{REPLACEMENT CHARACTER}"), max(0, len(written) - most)
