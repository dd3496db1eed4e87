"""What an HTTP answer becomes: a value that expressions can read, or the reason why the step failed."""

import json
import re
from collections.abc import Mapping
from datetime import UTC, datetime
from email.message import Message
from email.utils import parsedate_to_datetime
from typing import Any, Final, Literal, NoReturn, TypeAlias

import msgspec
from msgspec import Raw, Struct

from chassis.egress import Response
from chassis.secret import HIDDEN_HEADERS
from contracts.causes import LOOP
from contracts.codec import Malformed, decode_json, depth_exceeds
from contracts.errors import ERRORS
from contracts.limits import JSON_DEPTH, RETRY_SECONDS
from executor.errors import Refused
from executor.outputs import Binary

Reading: TypeAlias = Literal["auto", "json", "text", "binary"]

_COME_AGAIN: Final = frozenset({408, 425, 429})
_SAID_BY_OTHERS: Final = frozenset({502, 504})
"""A proxy's answer in place of the server's: what the server did, nobody knows."""
_DEEPEST: Final = JSON_DEPTH - 4
"""The answer stands inside the step's output, and that inside the run's values."""
_LOOP_CHARS: Final = 1_500
_SURROGATE: Final = re.compile(rb"\\u[dD][89a-fA-F]")
_JSON: Final = re.compile(r"application/(json|[a-z0-9.+-]+\+json)")
_TEXT: Final = re.compile(r"text/.*|application/(xml|[a-z0-9.+-]+\+xml|javascript|x-www-form-urlencoded)")


def body_of(response: Response, reading: Reading) -> Any:
    """The answer's body as JSON, text or bytes. Raises `Refused` when it is not what it was said to be."""
    kind, charset = content_type(response)
    if reading == "binary":
        return _binary(response, kind)
    if not response.body:
        return None
    if reading == "json":
        return _json(response.body)
    if reading == "text":
        return _text(response.body, charset)
    if _JSON.fullmatch(kind):
        try:
            return _json(response.body)
        except Refused:
            return _text(response.body, charset)
    return _text(response.body, charset) if _TEXT.fullmatch(kind) else _binary(response, kind)


def headers_of(response: Response) -> dict[str, str]:
    """The headers by lower-case name, without those that carry secrets."""
    shown: dict[str, str] = {}
    for name, value in response.headers:
        if name not in HIDDEN_HEADERS:
            shown[name] = f"{shown[name]}, {value}" if name in shown else value
    return shown


def content_type(response: Response) -> tuple[str, str]:
    """Media type and charset, both in lower case; empty when they are not said."""
    header = Message()
    header["content-type"] = response.header("content-type") or ""
    if not header["content-type"].strip():
        return "", ""
    return header.get_content_type(), str(header.get_param("charset") or "").lower()


def retry_after(response: Response, now: datetime) -> float | None:
    """How many seconds the other side asks us to wait, bounded; None when it does not say or says nonsense."""
    said = (response.header("retry-after") or "").strip()
    if said.isascii() and said.isdigit():
        seconds = float(said[:12])
    else:
        try:
            moment = parsedate_to_datetime(said)
        except ValueError:
            return None
        seconds = (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp() - now.timestamp()
    return min(max(seconds, 0.0), RETRY_SECONDS)


def _binary(response: Response, kind: str) -> Binary:
    return Binary(response.body, kind or "application/octet-stream")


def _text(body: bytes, charset: str) -> str:
    try:
        return body.decode(charset or "utf-8", "replace")
    except (LookupError, UnicodeError):
        return body.decode("utf-8", "replace")


def _json(body: bytes) -> Any:
    text = body.removeprefix(b"\xef\xbb\xbf")
    if depth_exceeds(text, _DEEPEST):
        raise Refused("The answer's JSON is nested too deeply.")
    try:
        if _SURROGATE.search(text):
            # Half a character may be in it: the output replaces it, but only Python's reader lets it pass.
            return json.loads(text, parse_constant=_no_constant)
        decode_json(text)
    except (Malformed, ValueError, RecursionError) as error:
        raise Refused("The answer is not JSON.") from error
    return Raw(text)


def _no_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not JSON")


def refusal(response: Response, now: datetime, *, detail: str = "") -> Refused:
    """What an answer that is no success means for the attempt. `detail`: what the other side calls it."""
    status = response.status
    detail = detail or _loop(response)
    return Refused(
        f"The other side answered with status {status}{f' ({detail})' if detail else ''}.",
        status=status,
        retryable=status >= 500 or status in _COME_AGAIN,
        retry_after_s=retry_after(response, now) if status in (429, 503) else None,
        touched=status in _SAID_BY_OTHERS,
    )


class _Problem(Struct, frozen=True):
    code: str = ""
    detail: str = ""


_problem: Final = msgspec.json.Decoder(_Problem)


def _loop(response: Response) -> str:
    """What our own address says where the run's workflow has started itself too often; empty for every other answer."""
    if not (response.ours and response.status == ERRORS[LOOP].status):
        return ""
    try:
        problem = _problem.decode(response.body)
    except msgspec.DecodeError:
        return ""
    return f"{LOOP}: {problem.detail[:_LOOP_CHARS]}" if problem.code == LOOP else ""


def succeeded(status: int, rules: tuple[str, ...]) -> bool:
    """Whether a status is one of those that the author of the workflow calls a success: `2xx`, `404`."""
    return any(rule in (f"{status // 100}xx", str(status)) for rule in rules)


def flat(values: Mapping[str, Any]) -> dict[str, str]:
    """Header values as text. What is null is left out."""
    return {name: scalar(value) for name, value in values.items() if value is not None}


def scalar(value: Any) -> str:
    """A JSON scalar as it stands in a URL, a form or a header."""
    return str(value).lower() if isinstance(value, bool) else str(value)
