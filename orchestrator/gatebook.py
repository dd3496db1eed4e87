"""Who is inside of a gate, as its newest commit tells it; and one commit more. What many ask at once is asked together."""

from collections.abc import Sequence

from msgspec import Struct

from chassis.clock import Clock
from chassis.crash import crash
from chassis.ids import commit_id, digest
from chassis.ports import Log, Proposal, Stored
from chassis.together import Together
from contracts.cloudevents import headers_of
from contracts.codec import decode_gate_commit, encode
from contracts.commits import FIRST_HASH
from contracts.gates import GateCommit, GateEvent, GateState
from contracts.limits import BATCH_COMMITS
from contracts.subjects import gate as gate_subject
from orchestrator.commits import ENGINE_VERSION
from orchestrator.fires import READ_AT_ONCE
from orchestrator.gates import evolve


class Known(Struct, frozen=True, kw_only=True):
    """A gate as its newest commit tells it."""

    state: GateState = GateState()
    sequence: int = 0
    version: int = 0
    hash: str = FIRST_HASH


class GateBook:
    """GATES."""

    def __init__(self, log: Log, clock: Clock) -> None:
        self._clock = clock
        self._log = log
        self._append_together = Together(log.append, BATCH_COMMITS)
        self._last_together = Together(self._last, READ_AT_ONCE)

    async def load(self, org: str, gate: str) -> Known:
        """Raises `Away`, or `Unknown` when a newer release has decided."""
        stored = await self._last_together.ask(gate_subject(org, gate))
        if stored is None:
            return Known()
        commit = decode_gate_commit(stored.body)
        return Known(
            state=commit.state, sequence=stored.sequence, version=commit.version, hash=digest(stored.body)
        )

    async def append(self, org: str, gate: str, known: Known, events: Sequence[GateEvent]) -> Known | None:
        """What is known then; None when another owner was there first. Raises `Away` when nobody knows."""
        state, now = known.state, self._clock.now()
        for event in events:
            state = evolve(state, event, now)
        subject = gate_subject(org, gate)
        commit = GateCommit(
            id=commit_id(subject, known.version + 1, known.hash, encode(events)),
            org=org,
            gate=gate,
            version=known.version + 1,
            events=tuple(events),
            state=state,
            time=now,
            actor="system",
            engine_version=ENGINE_VERSION,
            prev_hash=known.hash,
        )
        body = encode(commit)
        crash("gate.before_append")
        sequence = await self._append_together.ask(
            Proposal(subject, body, known.sequence, headers_of(commit))
        )
        crash("gate.after_append")
        if sequence is None:
            return None
        return Known(state=state, sequence=sequence, version=commit.version, hash=digest(body))

    async def _last(self, subjects: Sequence[str]) -> list[Stored | None]:
        found = await self._log.last(subjects)
        return [found.get(subject) for subject in subjects]
