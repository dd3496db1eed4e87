"""Where a long history is cut: each segment begins with the run's whole state, so that going on costs the same at any length.

A seam says nothing new. What it says is the fold of everything before it, and whoever has those events checks that it is
(`orchestrator.history`). Where it is cut is the owner's choice, by what can be read again quickly; so the bounds may change
with every release, and a history is decided again as it was.

The state is written without anything that is at its default, field by field in the order of the structs. So a field that a later
release adds changes no byte of a state that does not use it, and what this release cannot say in the same bytes again it has
not understood: then it goes back to the events.
"""

from collections.abc import Sequence
from typing import Any, Final

from msgspec import NODEFAULT, UNSET, Raw, Struct, structs

from contracts.codec import Decoder, Malformed, encode
from contracts.limits import BLOB_BYTES, SEGMENT_BYTES, SEGMENT_EVENTS
from contracts.payloads import Inline
from contracts.runs import RunContinued, RunEvent
from orchestrator.acceptance import RULES
from orchestrator.state import Run

FORMAT: Final = 1
"""Grows when the same bytes begin to mean something else; a new field alone does not ask for it."""
_decode: Final = Decoder[Run](Run)


class Segment(Struct, frozen=True, kw_only=True):
    """The segment that a run is in, as far as it was read or written."""

    number: int = 1
    events: int = 0
    size: int = 0
    """Bytes of its commits."""
    state: int = 0
    """Bytes of the state that it began with."""
    sequence: int = 0
    """Where its first commit lies in the log; 0 where nobody knows, or where it is the run's first."""


class Bounds(Struct, frozen=True, kw_only=True):
    """When a segment is long enough."""

    events: int = SEGMENT_EVENTS
    size: int = SEGMENT_BYTES

    def reached(self, segment: Segment) -> bool:
        """A state that is larger than its segment waits: else the states would be most of what is stored."""
        long = segment.events >= self.events or segment.size >= self.size
        return long and segment.size >= segment.state


def further(segment: Segment, events: Sequence[RunEvent], size: int, sequence: int = 0) -> Segment:
    """After one more commit, which may begin the next one."""
    first = events[0]
    if isinstance(first, RunContinued):
        state = len(first.state.value) if isinstance(first.state, Inline) else first.state.size
        return Segment(number=first.segment, events=len(events), size=size, state=state, sequence=sequence)
    return structs.replace(segment, events=segment.events + len(events), size=segment.size + size)


def continued(run: Run, segment: int, events: int) -> RunContinued | None:
    """What the commit says that begins this segment, behind so many events. None: the state is too large for any store."""
    state = snapshot(run)
    if len(state) > BLOB_BYTES:
        return None
    return RunContinued(
        segment=segment,
        events=events,
        opening=run.opening,
        stopping=run.phase == "stopping",
        attempts={path: scheduled.attempt for path, scheduled in run.attempts.items()},
        doubts=run.doubts,
        format=FORMAT,
        state=Inline(value=Raw(state)),
    )


def snapshot(run: Run) -> bytes:
    """Everything that is remembered of a run."""
    return encode(_bare(run))


def restored(state: bytes, event: RunContinued, org: str, run_id: str) -> Run | None:
    """The run as it was at the seam; None when this release cannot read all of it, or when it is another's."""
    if event.format != FORMAT:
        return None
    try:
        run = _decode(state)
    except Malformed:
        return None
    known = (run.org, run.id) == (org, run_id) and run.rules <= RULES
    return run if known and snapshot(run) == state else None


def _bare(value: Any) -> Any:
    """A value for JSON, without what stands at its default."""
    match value:
        case Struct():
            config = value.__struct_config__
            bare = {config.tag_field: config.tag} if config.tag_field else {}
            for name, default in _fields(type(value)):
                given = getattr(value, name)
                if given != default:
                    bare[name] = _bare(given)
            return bare
        case dict():
            return {key: _bare(each) for key, each in value.items()}
        case tuple() | list():
            return [_bare(each) for each in value]
        case _:
            return value


_known: Final[dict[type[Struct], tuple[tuple[str, Any], ...]]] = {}


def _fields(kind: type[Struct]) -> tuple[tuple[str, Any], ...]:
    """Its fields and their defaults, in their order."""
    if kind not in _known:
        _known[kind] = tuple((field.name, _default(field)) for field in structs.fields(kind))
    return _known[kind]


def _default(field: structs.FieldInfo) -> Any:
    if field.default_factory is not NODEFAULT:
        return field.default_factory()
    return UNSET if field.default is NODEFAULT else field.default
