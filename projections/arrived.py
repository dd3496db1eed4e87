"""One message of RUNS, read as far as this release can read it. Whatever its bytes are, something comes of it."""

from typing import Final, Literal, TypeAlias

from msgspec import Struct

from chassis.ports import Stored
from contracts.codec import Malformed, Unknown, decode_commit, decode_envelope
from contracts.commits import Commit
from contracts.runs import RunEvent
from projections.sanitised import text

RunKey: TypeAlias = tuple[str, str]
Trouble: TypeAlias = Literal["malformed", "unknown", "misplaced", "gap", "chain", "refused"]
TROUBLES: Final[tuple[Trouble, ...]] = ("malformed", "unknown", "misplaced", "gap", "chain", "refused")


class Letter(Struct, frozen=True, kw_only=True):
    """A message that somebody must look at, and why."""

    stored: Stored
    epoch: int
    trouble: Trouble
    reason: str
    org: str = "_"
    run: str = "_"


def letter_about(stored: Stored, epoch: int, trouble: Trouble, reason: str) -> Letter:
    """A letter about a message of a trigger or a schedule: in the place of the run stands its id."""
    _, org, name = stored.subject.split(".")
    return Letter(stored=stored, epoch=epoch, trouble=trouble, reason=reason, org=org, run=name)


class Arrived(Struct, frozen=True, kw_only=True):
    """One message of RUNS, read as far as this release can read it."""

    stored: Stored
    epoch: int
    org: str
    run: str
    version: int
    """0: not even the frame can be read."""
    prev_hash: str = ""
    events: int = 0
    commit: Commit[RunEvent] | None = None
    needs_release: str | None = None
    trouble: Trouble | None = None
    reason: str = ""

    @property
    def key(self) -> RunKey:
        return self.org, self.run


def read(stored: Stored, epoch: int) -> Arrived:
    """Decode a message of RUNS. Whatever its bytes are, something comes back that says so."""
    org, run = _address(stored.subject)
    try:
        commit = decode_commit(stored.body)
    except Unknown as unknown:
        return _framed(stored, epoch, "unknown", unknown)
    except Malformed as malformed:
        return _framed(stored, epoch, "malformed", malformed)
    if (commit.org, commit.run) != (org, run):
        reason = f"the commit says that it belongs to {commit.org}.{commit.run}"
        return Arrived(
            stored=stored, epoch=epoch, org=org, run=run, version=0, trouble="misplaced", reason=reason
        )
    return Arrived(
        stored=stored,
        epoch=epoch,
        org=org,
        run=run,
        version=commit.version,
        prev_hash=commit.prev_hash,
        events=len(commit.events),
        commit=commit,
    )


def _framed(stored: Stored, epoch: int, trouble: Trouble, error: Unknown | Malformed) -> Arrived:
    """Events from another release, or damaged ones: the frame alone, when it can be read."""
    org, run = _address(stored.subject)
    version, prev_hash, events = 0, "", 0
    try:
        envelope = decode_envelope(stored.body)
        if (envelope.org, envelope.run) == (org, run):
            version, prev_hash, events = envelope.version, envelope.prev_hash, len(envelope.events)
    except Malformed:
        pass  # Then version 0 says that there is no frame either.
    return Arrived(
        stored=stored,
        epoch=epoch,
        org=org,
        run=run,
        version=version,
        prev_hash=prev_hash,
        events=events,
        needs_release=error.needs_release if isinstance(error, Unknown) else None,
        trouble=trouble,
        reason=text(str(error)),
    )


def _address(subject: str) -> RunKey:
    """The stream takes `run.*.*` and nothing else."""
    _, org, run = subject.split(".")
    return org, run
