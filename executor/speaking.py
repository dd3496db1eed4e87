"""What one attempt says: the lines of its node between one that it began and one that tells how it ended.

Rule that holds here: a secret that was opened for the attempt is blanked out of all of them, whoever wrote it there.
"""

import asyncio
import math
from contextlib import AbstractAsyncContextManager
from datetime import datetime
from typing import Any, Final

from msgspec import Raw

from chassis.egress import Credential, Egress, EgressError
from chassis.secret import REDACTED, Secret, redact
from contracts.codec import decode_json, encode
from contracts.limits import KIB, LOG_BYTES, LOG_LINES, LOG_TEXT_CHARS
from contracts.logs import LogLevel, LogLine, LogRecord
from contracts.messages import Task
from contracts.payloads import Blob, Inline
from executor.errors import StepError, from_egress
from executor.journal import Journal
from executor.node import Context, Given, Node, Result, SecretReference
from executor.redaction import Redaction, texts_of, unsealed_texts
from executor.relay import Relay
from executor.sandbox.sandbox import Sandbox

_SLOW_SECONDS: Final = 1.0
_FIELDS: Final = 20
_FIELD_CHARS: Final = 500
_NAME_CHARS: Final = 64
_RECORD_BYTES: Final = 64 * KIB
_ENOUGH: Final = "More was said; an attempt keeps {} lines or {} KiB."


class Said:
    """Lines within the bounds, and the secrets that must not be in them."""

    def __init__(self, task: Task, journal: Journal) -> None:
        self._task, self._journal = task, journal
        self._began = journal.clock.seconds()
        self._first = LogLine(time=journal.clock.now().timestamp(), text=f"Attempt {task.attempt} begins.")
        self._opened = False
        self._full = False
        self._lines: list[LogLine] = []
        self._count = self._bytes = 0
        self._secrets: list[str] = []
        self._redaction: Redaction | None = None

    @property
    def took_ms(self) -> int:
        return round((self._journal.clock.seconds() - self._began) * 1000)

    def hide(self, texts: list[str]) -> None:
        """From now on, and in what was not stored yet."""
        self._secrets += texts
        self._redaction = None

    def add(self, level: LogLevel, text: str, fields: dict[str, Any]) -> None:
        if self._full:
            return
        line = self._line(level, text, fields)
        self._bytes += len(line.text) + sum(
            len(name) + len(str(value)) for name, value in line.fields.items()
        )
        self._count += 1
        if self._count > LOG_LINES - 3 or self._bytes > LOG_BYTES - 2 * LOG_TEXT_CHARS:
            self._full = True
            line = self._line("warning", _ENOUGH.format(LOG_LINES, LOG_BYTES // KIB), {})
        self._put(line)

    def end(self, level: LogLevel, text: str, **fields: Any) -> None:
        """The last line. An attempt that said nothing, was quick and ended well stays silent."""
        if self._opened or level != "info" or self.took_ms >= _SLOW_SECONDS * 1000:
            self._put(self._line(level, text, fields | {"took_ms": self.took_ms}))

    def records(self) -> list[LogRecord]:
        if not self._opened and self.took_ms >= _SLOW_SECONDS * 1000:
            self._open()
        lines, self._lines = self._lines, []
        records: list[list[LogLine]] = []
        size = _RECORD_BYTES
        for line in map(self._shown, lines):
            length = len(encode(line))
            if size + length > _RECORD_BYTES:
                records.append([])
                size = 0
            records[-1].append(line)
            size += length
        return [self._record(each) for each in records]

    def _record(self, lines: list[LogLine]) -> LogRecord:
        task = self._task
        return LogRecord(
            org=task.org,
            run=task.run,
            step=task.step,
            node=task.node,
            attempt=task.attempt,
            executor=self._journal.executor,
            lines=tuple(lines),
        )

    def _put(self, line: LogLine) -> None:
        self._open()
        self._lines.append(line)

    def _open(self) -> None:
        if not self._opened:
            self._opened = True
            self._lines.append(self._first)

    def _line(self, level: LogLevel, text: str, fields: dict[str, Any]) -> LogLine:
        return LogLine(
            time=self._journal.clock.now().timestamp(),
            level=level,
            text=_fit(text, 2 * LOG_TEXT_CHARS),
            fields={
                _fit(name, 2 * _NAME_CHARS): _plain(value) for name, value in list(fields.items())[:_FIELDS]
            },
        )

    def _shown(self, line: LogLine) -> LogLine:
        """The line without what must not be seen."""
        if self._redaction is None:
            self._redaction = Redaction.of(self._secrets)
        blank = self._redaction
        shown = redact(
            None, "", {"text": line.text} | {f"/{name}": value for name, value in line.fields.items()}
        )
        hidden = redact(None, "", dict(line.fields))
        return LogLine(
            time=line.time,
            level=line.level,
            text=_shortened(blank, shown["text"], LOG_TEXT_CHARS),
            fields={
                _shortened(blank, name, _NAME_CHARS): _blanked(
                    blank, REDACTED if hidden[name] == REDACTED else shown[f"/{name}"]
                )
                for name in line.fields
            },
        )


def _blanked(blank: Redaction, value: Any) -> Any:
    """A number that is a secret is one too."""
    if value is None or isinstance(value, bool):
        return value
    text = str(value)
    shown = _shortened(blank, text, _FIELD_CHARS)
    return value if shown == text else shown


def _shortened(blank: Redaction, text: str, most: int) -> str:
    """First blanked, then cut: half a secret would not be known as one. The text itself may have been cut before."""
    shown = blank.text(text)
    if len(text) >= 2 * most:
        shown = shown[: max(0, len(shown) - blank.longest)]
    return shown if len(shown) <= most else shown[: most - 1] + "…"


def _plain(value: Any) -> Any:
    """A scalar that JSON can say; of anything else its text."""
    if value is None or isinstance(value, bool | Secret):
        return REDACTED if isinstance(value, Secret) else value
    if isinstance(value, int) and abs(value) < 2**53:
        return value
    if isinstance(value, float) and math.isfinite(value):
        return value
    return _fit(
        bytes(value).decode(errors="replace") if isinstance(value, Raw | bytes) else value, 2 * _FIELD_CHARS
    )


def _fit(text: Any, most: int) -> str:
    """Text that every store takes, not longer than this."""
    try:
        written = str(text)[:most]
    except Exception as error:  # A stranger's object, or a number of too many digits.
        written = f"({type(text).__name__}: {type(error).__name__})"
    whole = written.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    return whole.replace("\0", "\N{REPLACEMENT CHARACTER}")


class SpeakingContext(Context):
    """What a node is given, and a place for what it says."""

    def __init__(self, given: Given, said: Said | None) -> None:
        self._given, self._said = given, said

    @property
    def task(self) -> Task:
        return self._given.task

    @property
    def key(self) -> str:
        return self._given.key

    @property
    def egress(self) -> Egress:
        return self._given.egress

    @property
    def relay(self) -> Relay:
        return self._given.relay

    @property
    def sandbox(self) -> Sandbox:
        return self._given.sandbox

    @property
    def now(self) -> datetime:
        return self._given.now

    def effect(self) -> AbstractAsyncContextManager[None]:
        return self._given.effect()

    async def open(self, reference: SecretReference) -> Credential:
        credential = await self._given.open(reference)
        if self._said is not None:
            self._said.hide(texts_of(credential.value))
        return credential

    async def fetch(self, blob: Blob) -> bytes:
        return await self._given.fetch(blob)

    def log(self, text: str, level: LogLevel = "info", **fields: Any) -> None:
        if self._said is not None:
            self._said.add(level, text, fields)


class SpeakingNode:
    """A node whose attempts are heard by a journal; without one nobody listens."""

    def __init__(self, node: Node[Any], journal: Journal | None) -> None:
        self.node, self._journal = node, journal

    async def run(self, config: Any, given: Given) -> Result:
        """As the node itself, whatever comes of it."""
        if self._journal is None:
            return await self.node.run(config, SpeakingContext(given, None))
        said = Said(given.task, self._journal)
        self._journal.begins(said)
        try:
            if given.task.key_id:
                said.hide(await _unsealed(given))
            result = await self.node.run(config, SpeakingContext(given, said))
            said.end("info", f"Attempt {given.task.attempt} succeeded.")
        except asyncio.CancelledError:
            said.end("warning", f"Attempt {given.task.attempt} was stopped.")
            raise
        except (StepError, EgressError) as error:
            told = from_egress(error, repeatable=True) if isinstance(error, EgressError) else error
            said.end("error", f"Attempt {given.task.attempt} failed: {told}", code=told.code)
            raise
        except BaseException as error:
            # The kind only: the text of a strange exception may hold what nobody shall see.
            said.end("error", f"Attempt {given.task.attempt} failed.", error=type(error).__name__)
            raise
        finally:
            self._journal.ends(said)
        return result


async def _unsealed(given: Given) -> list[str]:
    """The texts that the run sealed and that stand open in this attempt's configuration."""
    payload = given.task.config
    written = bytes(payload.value) if isinstance(payload, Inline) else await given.fetch(payload)
    return [] if written == given.config else unsealed_texts(decode_json(written), decode_json(given.config))
