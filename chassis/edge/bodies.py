"""A request's body: bounded in size and time, then decoded under the rules for strangers.

Rule that holds here: whatever the bytes are, the outcome is a whole value or a `Problem`; no other exception leaves.
"""

import asyncio
from collections.abc import Awaitable, Callable, Mapping, MutableMapping
from typing import Any, Final, Generic, TypeVar

import msgspec
from msgspec import Raw, Struct

from chassis.edge.choices import choices
from chassis.edge.problems import Complaint, Problem
from chassis.pointers import escaped
from contracts.codec import depth_exceeds, explain
from contracts.limits import API_BODY_BYTES, BODY_SECONDS, JSON_DEPTH, JSON_KEYS, STRING_BYTES

T = TypeVar("T")

SLOWEST_BYTES_PER_SECOND: Final = 8 * 1024
"""A large upload over a thin line may take longer than the deadline, as long as it comes this fast."""
_LARGEST_INTEGER: Final = 2**63 - 1
_SHOWN_CHARS: Final = 200
"""As much is said of a key that does not fit."""

Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]


class Gone(Exception):
    """The client went away before its request was whole: nobody waits for an answer."""


async def read_body(
    receive: Receive,
    content_length: bytes | None,
    limit: int = API_BODY_BYTES,
    seconds: float = BODY_SECONDS,
) -> bytes:
    """The whole body. Raises `Problem` when it is too large or too slow, `Gone` when the client is."""
    if content_length is not None and _number(content_length) > limit:
        raise _too_large(limit)
    loop = asyncio.get_running_loop()
    begin = loop.time()
    parts: list[bytes] = []
    size = 0
    try:
        async with asyncio.timeout_at(begin + seconds) as deadline:
            while True:
                message = await receive()
                if message["type"] == "http.disconnect":
                    raise Gone
                part: bytes = message.get("body", b"")
                size += len(part)
                if size > limit:
                    raise _too_large(limit)
                parts.append(part)
                if not message.get("more_body", False):
                    return parts[0] if len(parts) == 1 else b"".join(parts)
                deadline.reschedule(begin + seconds + size / SLOWEST_BYTES_PER_SECOND)
    except TimeoutError:
        raise Problem(
            "slow_request", "The body did not arrive in time.", headers={"connection": "close"}
        ) from None


def size_of(content_length: bytes, limit: int) -> int:
    """How many bytes a body may turn out to have, before it is read: the limit when nobody said."""
    return (
        min(int(content_length), limit) if content_length.isdigit() and len(content_length) <= 18 else limit
    )


def _number(text: bytes) -> int:
    if not text.isdigit() or len(text) > 18:
        raise Problem("malformed", "Content-Length is not a number.", headers={"connection": "close"})
    return int(text)


def _too_large(limit: int) -> Problem:
    return Problem(
        "too_large", f"The body may have {limit} bytes at the most.", headers={"connection": "close"}
    )


class BodyDecoder(Generic[T]):
    """Decodes one type from a JSON body, strictly: no unknown field at any depth, no NUL, no number beyond 64 bits.

    Fields of type `Raw` are opaque: they only have to be JSON of a bearable depth.
    """

    def __init__(self, kind: type[T], dec_hook: Callable[[type, Any], Any] | None = None) -> None:
        self._decoder = msgspec.json.Decoder(kind, dec_hook=dec_hook)

    def __call__(self, data: bytes) -> T:
        if depth_exceeds(data):
            raise Problem("malformed", f"The JSON is nested deeper than {JSON_DEPTH} levels.")
        try:
            value = self._decoder.decode(data)
            plain = _PLAIN.decode(data)
        except _UNREADABLE as error:
            message, pointer = explain(error)
            # Without its cause, which may quote what must not be shown.
            raise _malformed(pointer, message + self._instead(message, data, pointer)) from None
        _check(plain, value, "")
        return value

    def _instead(self, message: str, data: bytes, pointer: str) -> str:
        """What may stand there, where another value did that is none of few."""
        if not message.startswith(("Invalid enum value", "Invalid value")):
            return ""
        try:
            told = choices(self._decoder.type, _PLAIN.decode(data), pointer)
        except _UNREADABLE:
            return ""  # What comes behind it is no JSON at all.
        return f"; it may be {', '.join(told)}" if told else ""


_PLAIN: Final = msgspec.json.Decoder(Any)
_UNREADABLE: Final = (msgspec.DecodeError, RecursionError, UnicodeDecodeError, ValueError)
"""Whatever a decoder raises for bytes that are not what it decodes."""


def _check(plain: Any, value: Any, at: str) -> None:
    """Walk the JSON beside what was made of it, and refuse what the types alone let pass."""
    match value:
        case Raw():
            return
        case Struct():
            _check_struct(plain, value, at)
        case Mapping():
            _check_keys(plain, at)
            for key, item in plain.items():
                _check(item, value.get(key), f"{at}/{escaped(key)[:_SHOWN_CHARS]}")
        case list() | tuple():
            for place, (item, made) in enumerate(zip(plain, value, strict=True)):
                _check(item, made, f"{at}/{place}")
        case _:
            _check_scalar(plain, at)


def _check_struct(plain: Mapping[str, Any], value: Struct, at: str) -> None:
    names = dict(zip(value.__struct_encode_fields__, value.__struct_fields__, strict=True))
    tag = value.__struct_config__.tag_field
    for key, item in plain.items():
        if key in names:
            _check(item, getattr(value, names[key]), f"{at}/{key}")
        elif key != tag:
            raise _malformed(f"{at}/{escaped(key)[:_SHOWN_CHARS]}", "There is no such field.")


def _check_keys(plain: Mapping[str, Any], at: str) -> None:
    if len(plain) > JSON_KEYS:
        raise _malformed(at, f"An object may have {JSON_KEYS} keys at the most.")
    for key in plain:
        if "\0" in key:
            raise _malformed(at, "A key holds a NUL character.")


def _check_scalar(plain: Any, at: str) -> None:
    if isinstance(plain, str):
        if "\0" in plain:
            raise _malformed(at, "The text holds a NUL character.")
        if len(plain) > STRING_BYTES // 4 and len(plain.encode()) > STRING_BYTES:
            raise _malformed(at, f"A text may have {STRING_BYTES} bytes at the most.")
    elif isinstance(plain, int) and abs(plain) > _LARGEST_INTEGER:
        raise _malformed(at, "The number is too large.")


def _malformed(pointer: str, message: str) -> Problem:
    return Problem(
        "malformed", "The body does not fit.", errors=[Complaint(pointer=pointer, message=message)]
    )
