"""Bytes to messages and back. The one place that decodes what was stored or sent.

Rule: a decoder here raises `Malformed` or returns a whole value; no other exception leaves, however deep, broken or
hostile the bytes. An event type that this release does not know is `Unknown`, never skipped in silence.
"""

import re
from collections.abc import Sequence
from typing import Any, Final, Generic, TypeVar, get_args

import msgspec
from msgspec import Raw

from contracts.commits import Commit, DomainCommit, Envelope
from contracts.gates import GateCommit, GateEvent
from contracts.limits import JSON_DEPTH
from contracts.messages import Answer, Said
from contracts.pauses import PauseEvent
from contracts.runs import RunContinued, RunEvent
from contracts.schedules import ScheduleCommit, ScheduleEvent
from contracts.triggers import TriggerEvent
from contracts.upcasts import CURRENT, upcast
from contracts.workflows import KeyEvent, OrgEvent, SecretEvent, WorkflowEvent

T = TypeVar("T")


class Malformed(Exception):
    """The bytes are not a message of this kind. `pointer` names the place where one is known."""

    def __init__(self, message: str, pointer: str = "") -> None:
        super().__init__(message)
        self.pointer = pointer


class Unknown(Exception):
    """A history holds an event type (or a version of one) from a newer release."""

    def __init__(self, kind: str, needs_release: str) -> None:
        super().__init__(f"{kind} needs release ≥ {needs_release}")
        self.kind = kind
        self.needs_release = needs_release


class Decoder(Generic[T]):
    """Decodes one type from JSON; built once, not per message."""

    def __init__(self, kind: Any, *, strict: bool = True) -> None:
        self._decoder: msgspec.json.Decoder[T] = msgspec.json.Decoder(kind, strict=strict)

    def __call__(self, data: bytes | Raw) -> T:
        try:
            return self._decoder.decode(data)
        except (msgspec.DecodeError, RecursionError, UnicodeDecodeError, ValueError) as error:
            raise Malformed(*explain(error)) from error


_AT: Final = re.compile(r" - at `\$(.*)`$")
_PART: Final = re.compile(r"\.([^.\[\]]+)|\[(\d+|\.\.\.)\]")


def explain(error: Exception) -> tuple[str, str]:
    """A sentence about a decoding error, and the JSON pointer of its place."""
    if isinstance(error, RecursionError):
        return "The JSON is nested too deeply.", ""
    if isinstance(error, UnicodeDecodeError):
        return "The text is not valid UTF-8.", ""
    text = str(error)
    found = _AT.search(text)
    if found is None:
        return text, ""
    pointer = "".join(
        f"/{name or ('*' if number == '...' else number)}" for name, number in _PART.findall(found[1])
    )
    return text[: found.start()], pointer


def depth_exceeds(data: bytes, limit: int = JSON_DEPTH) -> bool:
    """Whether JSON text nests deeper than `limit`, told without decoding it. Linear; brackets in strings do not count."""
    if data.count(b"[") + data.count(b"{") <= limit:
        return False
    depth = 0
    for bracket in _BRACKETS.finditer(data):
        match bracket[0][:1]:
            case b"[" | b"{":
                depth += 1
                if depth > limit:
                    return True
            case b"]" | b"}":
                depth -= 1
    return False


_BRACKETS: Final = re.compile(rb'"(?:[^"\\]|\\.)*"|[\[\]{}]', re.DOTALL)

encoder: Final = msgspec.json.Encoder()
encode: Final = encoder.encode

decode_envelope: Final = Decoder[Envelope](Envelope)
decode_message: Final = Decoder[Said](Said)
decode_answers: Final = Decoder[list[Answer]](list[Answer])
decode_json: Final = Decoder[Any](Any)
_raws: Final = Decoder[list[Raw]](list[Raw])
_bundle: Final = msgspec.json.Decoder(list[Said])
_run_commit: Final[msgspec.json.Decoder[Commit[RunEvent]]] = msgspec.json.Decoder(Commit[RunEvent])
_DOMAIN: Final[dict[str, tuple[Any, msgspec.json.Decoder[Any]]]] = {
    name: (union, msgspec.json.Decoder(DomainCommit[union]))  # type: ignore[valid-type]  # The union is a value here.
    for name, union in (
        ("workflow", WorkflowEvent),
        ("trigger", TriggerEvent),
        ("org", OrgEvent),
        ("secret", SecretEvent),
        ("key", KeyEvent),
        ("pauses", PauseEvent),
    )
}
AGGREGATES: Final = tuple(_DOMAIN)
_schedule_commit: Final = msgspec.json.Decoder(ScheduleCommit)
_gate_commit: Final = msgspec.json.Decoder(GateCommit)


def _tags(union: Any) -> frozenset[str]:
    return frozenset(str(kind.__struct_config__.tag) for kind in get_args(union) or (union,))


_APART: Final = {"schedule": _tags(ScheduleEvent), "gate": _tags(GateEvent)}
"""Of histories in streams of their own."""
_KNOWN: Final = (
    {"run": _tags(RunEvent)} | _APART | {name: _tags(union) for name, (union, _) in _DOMAIN.items()}
)

FOLLOWED: Final = frozenset(tag for aggregate, tags in _KNOWN.items() if aggregate != "gate" for tag in tags)
"""The types of events that stand in RUNS, DOMAIN and SCHEDULES, which a trigger may follow."""


_NEWEST: Final[dict[type, int]] = {
    kind: CURRENT.get(str(kind.__struct_config__.tag), 1)
    for union in (RunEvent, ScheduleEvent, GateEvent, *(union for union, _ in _DOMAIN.values()))
    for kind in get_args(union) or (union,)
}


def _are_current(events: Sequence[Any]) -> bool:
    """Whether each event has the newest version of its shape."""
    return [event.schema_version for event in events] == [_NEWEST[type(event)] for event in events]


def decode_commit(body: bytes) -> Commit[RunEvent]:
    """One commit of RUNS with today's event shapes. Raises `Unknown` or `Malformed`."""
    try:
        commit = _run_commit.decode(body)
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError):
        return _decode_old(body, "run", _run_commit)
    if _are_current(commit.events):
        return commit
    return _decode_old(body, "run", _run_commit)


def decode_domain_commit(body: bytes, aggregate: str) -> DomainCommit[Any]:
    """One commit of DOMAIN with today's event shapes. Raises `Unknown` or `Malformed`."""
    if aggregate not in _DOMAIN:
        raise Unknown(f"evt.{aggregate}", decode_envelope(body).engine_version)
    decoder: msgspec.json.Decoder[DomainCommit[Any]] = _DOMAIN[aggregate][1]
    try:
        commit = decoder.decode(body)
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError):
        return _decode_old(body, aggregate, decoder)
    if _are_current(commit.events):
        return commit
    return _decode_old(body, aggregate, decoder)


def decode_schedule_commit(body: bytes) -> ScheduleCommit:
    """One commit of SCHEDULES with today's event shapes. Raises `Unknown` or `Malformed`."""
    try:
        commit = _schedule_commit.decode(body)
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError):
        return _decode_old(body, "schedule", _schedule_commit)
    if _are_current(commit.events):
        return commit
    return _decode_old(body, "schedule", _schedule_commit)


def decode_gate_commit(body: bytes) -> GateCommit:
    """One commit of GATES with today's event shapes. Raises `Unknown` or `Malformed`."""
    try:
        commit = _gate_commit.decode(body)
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError):
        return _decode_old(body, "gate", _gate_commit)
    if _are_current(commit.events):
        return commit
    return _decode_old(body, "gate", _gate_commit)


class _Stamp(msgspec.Struct, frozen=True):
    type: str
    schema_version: int = 1


_stamp: Final = msgspec.json.Decoder(_Stamp)


def _decode_old(body: bytes, aggregate: str, decoder: msgspec.json.Decoder[T]) -> T:
    """The slow path: lift every event to today's shape, or say which release it needs."""
    envelope = decode_envelope(body)
    lifted: list[Any] = []
    for raw in envelope.events:
        try:
            stamp = _stamp.decode(raw)
            event: Any = msgspec.json.decode(raw)
        except (msgspec.DecodeError, RecursionError, UnicodeDecodeError) as error:
            raise Malformed(*explain(error)) from error
        if stamp.type not in _KNOWN[aggregate] or stamp.schema_version > CURRENT.get(stamp.type, 1):
            raise Unknown(f"{stamp.type} {stamp.schema_version}", envelope.engine_version)
        lifted.append(upcast(stamp.type, stamp.schema_version, event))
    try:
        frame = msgspec.json.decode(body)
        return decoder.decode(encode({**frame, "events": lifted}))
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError) as error:
        raise Malformed(*explain(error)) from error


def begins_segment(body: bytes) -> bool:
    """Whether a commit begins with `run.continued`. Never raises: what cannot be read begins nothing."""
    try:
        return _stamp.decode(decode_envelope(body).events[0]).type == _CONTINUED
    except (Malformed, IndexError, msgspec.DecodeError, RecursionError, UnicodeDecodeError):
        return False


_CONTINUED: Final = str(RunContinued.__struct_config__.tag)


def encode_bundle(messages: list[bytes]) -> bytes:
    """Several encoded messages as one: a bundle costs one sync, not one each."""
    return b"[" + b",".join(messages) + b"]"


def decode_bundle(body: bytes) -> list[Said | Malformed]:
    """The messages of a bundle (or a single one). What cannot be read stands as `Malformed` in its place."""
    if body[:1] != b"[":
        return [_message(body)]
    try:
        return list(_bundle.decode(body))
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError):
        pass  # One of them is bad: tell which, and keep the others.
    try:
        return [_message(raw) for raw in _raws(body)]
    except Malformed as malformed:
        return [malformed]


def _message(body: bytes | Raw) -> Said | Malformed:
    try:
        return decode_message(body)
    except Malformed as malformed:
        return malformed
