"""What the promises mean where starts are gathered: each of them is done in one run, and names the one in which it is.

Told by the histories alone: whoever stands for others has what started them, word for word, whoever another one stands for has
ended with its name, and whoever a newer one supersedes knows one that is newer.
"""

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final, TypeAlias

import msgspec
from msgspec import Struct

from contracts import runs
from contracts.gates import SlotWanted
from contracts.payloads import Inline, Payload
from orchestrator.inputs import trigger_body
from tests.promises.evidence import Evidence, History, Violation
from tests.promises.values import UNKNOWN, Values

Start: TypeAlias = tuple[str, str]
"""A run, and the gate at which it was gathered."""


class Gathered(Struct):
    """What a run has to say about the gates that gather starts."""

    body: Any
    """What started it; `UNKNOWN` where that lies apart."""
    stood: dict[str, float]
    """The gates at which it stood in its first opening, and since when."""
    let_in: set[str]
    stands_for: dict[str, Sequence[tuple[str, Any]]]
    """By gate: the runs of its batch, itself among them, and what started each."""
    replaced: list[runs.SlotRefused]


_NOBODY: Final = Gathered(UNKNOWN, {}, set(), {}, [])


def every_start_is_done_once(evidence: Evidence, histories: Sequence[History]) -> Iterator[Violation]:
    values = Values(evidence.values)
    told = {(history.org, history.run): _told(history, values) for history in histories}
    yield from _stands_once(told)
    for (org, run), gathered in told.items():
        for refused in gathered.replaced:
            what = _lost(run, refused, gathered, told.get((org, refused.by or "")))
            if what:
                yield Violation("P1", what, run)


def _stands_once(told: Mapping[tuple[str, str], Gathered]) -> Iterator[Violation]:
    """Whoever is in a batch is in no other one, and is not let in by itself."""
    leaders: dict[Start, list[str]] = defaultdict(list)
    batches = [
        (org, run, gate, batch)
        for (org, run), gathered in told.items()
        for gate, batch in gathered.stands_for.items()
    ]
    for org, run, gate, batch in batches:
        if run not in dict(batch):
            yield Violation("P2", f"it stands for the batch of gate {gate}, and not for itself", run)
        for member, body in batch:
            leaders[member, gate].append(run)
            theirs = told.get((org, member), _NOBODY)
            if member != run and gate in theirs.let_in:
                yield Violation("P2", f"run {member} is in its batch, and was let in by itself", run)
            if theirs.body is not UNKNOWN and theirs.body != body:
                yield Violation("P1", f"its batch has something else than what started run {member}", run)
    for (run, gate), found in leaders.items():
        if len(found) > 1:
            yield Violation("P2", f"{len(found)} runs stand for it at gate {gate}: {found}", run)


def _lost(run: str, refused: runs.SlotRefused, gathered: Gathered, by: Gathered | None) -> str:
    """Why the run that should go on in its place does not; empty when it does."""
    gate = refused.gate
    if by is None or gate not in by.stood:
        return f"run {refused.by} goes on in its place, and never stood at gate {gate}"
    if refused.why == "gathered" and run not in dict(by.stands_for.get(gate, ())):
        return f"run {refused.by} stands for it, and does not have what started it"
    if refused.why == "superseded" and (by.stood[gate], refused.by or "") <= (gathered.stood[gate], run):
        return f"run {refused.by} supersedes it, and is not newer"
    return ""


def _told(history: History, values: Values) -> Gathered:
    found = Gathered(UNKNOWN, {}, set(), {}, [])
    gates: dict[str, str] = {}
    opened = 0.0
    for commit in history.commits:
        for event in commit.events:
            match event:
                case runs.RunStarted():
                    opened = commit.time.timestamp()
                    found.body = _body(event.input)
                case runs.RunReopened():
                    return found
                case runs.WaitOpened(slot=SlotWanted() as slot):
                    found.stood[slot.gate] = opened
                    gates[event.wait] = slot.gate
                case runs.SlotTaken():
                    found.let_in.add(event.gate)
                    if event.input is not None and (input_ := values.read(event.input)) is not UNKNOWN:
                        found.stands_for[event.gate] = list(zip(input_["runs"], input_["body"], strict=True))
                case runs.SlotRefused(why="superseded" | "gathered"):
                    found.replaced.append(event)
    return found


def _body(started_with: Payload) -> Any:
    """What expressions see as its `trigger.body`; in a batch, what lies apart is a reference."""
    if not isinstance(started_with, Inline):
        return UNKNOWN
    return msgspec.json.decode(trigger_body(started_with.value))
