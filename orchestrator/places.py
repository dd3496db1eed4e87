"""Who has a place at a gate: how a commit of GATES is read and made."""

from collections.abc import Sequence
from typing import Final

from msgspec import structs

from contracts.codec import decode_gate_commit
from contracts.gates import GateCommit, GateEvent, GateState
from contracts.subjects import gate as gate_subject
from orchestrator.book import Frame, Kind
from orchestrator.gates import evolve


def _commit(frame: Frame, gate: str, events: Sequence[GateEvent], state: GateState) -> GateCommit:
    return GateCommit(gate=gate, events=tuple(events), state=state, actor="system", **structs.asdict(frame))


PLACES: Final = Kind[GateState, GateEvent](
    subject=gate_subject,
    new=GateState(),
    decode=decode_gate_commit,
    evolve=evolve,
    commit=_commit,
    crash_before="gate.before_append",
    crash_after="gate.after_append",
)
