"""What the promises mean at gates: never more inside than a gate allows, nobody inside whom it has not let in, and nobody who
waits at a free one when all is calm.

Told by the histories of the runs and by what GATES has: nothing here asks what a keeper remembers.
"""

import hashlib
from collections import defaultdict
from collections.abc import Iterator, Sequence
from math import inf
from typing import Final, NamedTuple, TypeAlias

from msgspec import Struct

from chassis.ids import derived
from chassis.ports import Stored
from contracts import runs
from contracts.codec import decode_domain_commit, decode_gate_commit
from contracts.commits import FIRST_HASH
from contracts.gates import ALL_RUNS, GateCommit, GateState, OrgLimits, SlotGranted, SlotWanted
from contracts.limits import GATE_SLOTS
from contracts.workflows import OrgLimitsSet
from orchestrator.gates import evolve
from tests.promises.evidence import Evidence, History, Violation

LEARNT_WITHIN: Final = 10.0
"""Who decides reads what the org says just then, and may stand still before that is recorded."""
_ENDS: Final = (runs.RunCompleted, runs.RunFailed, runs.RunCancelled)
Place: TypeAlias = tuple[str, str]
"""An org and a gate of it."""


class Stay(Struct):
    """One run inside of one gate, by places in the log: clocks may be wrong, and differ."""

    run: str
    opening: int
    slot: SlotWanted
    since: int
    until: float = inf


def gates_are_kept(evidence: Evidence, histories: Sequence[History]) -> Iterator[Violation]:
    commits = _commits(evidence.gates)
    said, wanted = _said(evidence), _wanted(histories)
    for place, stored in commits.items():
        yield from _well_written(place, stored)
        if place in wanted and said.get(place[0]):
            yield from _never_more_than_the_org_says(place, stored, wanted[place], said[place[0]])
    granted = {
        (org, gate, event.run, event.opening)
        for (org, gate), stored in commits.items()
        for commit in map(_decoded, stored)
        for event in commit.events
        if isinstance(event, SlotGranted)
    }
    for history in histories:
        for stay in _stays(history):
            if (history.org, stay.slot.gate, stay.run, stay.opening) not in granted:
                yield Violation("P2", f"gate {stay.slot.gate} never let it in", history.run)
    yield from never_too_many_are_inside(evidence, histories)


def never_too_many_are_inside(evidence: Evidence, histories: Sequence[History]) -> Iterator[Violation]:
    """What the histories alone tell, whatever GATES has kept."""
    said = _said(evidence)
    stays: dict[Place, list[Stay]] = defaultdict(list)
    for history in histories:
        for stay in _stays(history):
            stays[history.org, stay.slot.gate].append(stay)
        yield from _began_inside(history)
        if history.start is not None and history.start.mode == "test" and _stays(history):
            yield Violation("P2", "it is a trial, and takes a place at a gate", history.run)
    for place, inside in stays.items():
        yield from _never_too_many(place, inside, said.get(place[0], ()))


def _commits(messages: Sequence[Stored]) -> dict[Place, list[Stored]]:
    found: dict[Place, list[Stored]] = defaultdict(list)
    for stored in messages:
        _, org, gate = stored.subject.split(".")
        found[org, gate].append(stored)
    return found


def _decoded(stored: Stored) -> GateCommit:
    return decode_gate_commit(stored.body)


def _well_written(place: Place, messages: Sequence[Stored]) -> Iterator[Violation]:
    """Versions, chain, and the state that stands in each commit; no run is let in that is inside."""
    before, state = FIRST_HASH, GateState()
    for number, stored in enumerate(messages, 1):
        commit = _decoded(stored)
        if commit.version != number:
            yield Violation("P4", f"gate {place}: version {commit.version} stands at place {number}")
        if commit.prev_hash != before:
            yield Violation("P4", f"gate {place}: version {number} does not follow from the one before")
        for event in commit.events:
            if isinstance(event, SlotGranted) and event.run in {holder.run for holder in state.holders}:
                yield Violation("P2", f"gate {place}: it was let in twice", event.run)
            state = evolve(state, event, commit.time)
        if commit.state != state:
            yield Violation("P4", f"gate {place}: version {number} says another state than its events")
        before, state = hashlib.sha256(stored.body).hexdigest(), commit.state


def _stays(history: History) -> list[Stay]:
    """From the commit in which a run heard that it is in to the one in which it ended."""
    found, opening = list[Stay](), 0
    wanted: dict[str, SlotWanted] = {}
    for stored, commit in zip(history.stored, history.commits, strict=True):
        for event in commit.events:
            match event:
                case runs.RunStarted() | runs.RunReopened():
                    opening += 1
                case runs.WaitOpened(slot=SlotWanted() as slot):
                    wanted[event.wait] = slot
                case runs.SlotTaken():
                    found.append(Stay(history.run, opening, wanted[event.wait], stored.sequence))
                case _ if isinstance(event, _ENDS):
                    for stay in found:
                        stay.until = min(stay.until, stored.sequence)
    return found


def _began_inside(history: History) -> Iterator[Violation]:
    """No step begins before the run has passed every gate at which it stood."""
    standing = set[str]()
    for event in history.events:
        match event:
            case runs.WaitOpened(slot=SlotWanted()):
                standing.add(event.wait)
            case runs.SlotTaken() | runs.SlotRefused() | runs.WaitDropped():
                standing.discard(event.wait)
            case runs.ItemsOpened() | runs.ChildAsked() | runs.AttemptScheduled() if standing:
                yield Violation("P2", f"step {event.step} began at a gate", history.run)


class Said(NamedTuple):
    """What an org says of its gates from a moment on, whose workflows share them."""

    since: float
    limits: OrgLimits


def _said(evidence: Evidence) -> dict[str, list[Said]]:
    found: dict[str, list[Said]] = defaultdict(list)
    for stored in evidence.triggers:
        _, org, aggregate, _ = stored.subject.split(".")
        if aggregate == "org":
            for event in decode_domain_commit(stored.body, "org").events:
                if isinstance(event, OrgLimitsSet):
                    found[org].append(Said(stored.time, event.limits))
    return found


def _never_too_many(place: Place, stays: Sequence[Stay], said: Sequence[Said]) -> Iterator[Violation]:
    bounds = [stay.slot.bounds.at_once for stay in stays]
    if None in bounds:
        return
    most = max(bound for bound in bounds if bound is not None)
    if _is_shared(place, stays[0].slot):
        most = max([most, *(_at_once(each, stays[0].slot, most) for each in said)])
    # Whoever leaves in the commit in which he comes was never inside with others.
    steps = sorted([(stay.since, 1) for stay in stays] + [(stay.until, -1) for stay in stays])
    inside = 0
    for _, step in steps:
        inside += step
        if inside > most:
            yield Violation("P2", f"gate {place}: {inside} were inside at once; {most} may be")
            return


def _wanted(histories: Sequence[History]) -> dict[Place, SlotWanted]:
    """What the workflows say of each gate; of several that share it, the one that lets most in."""
    found: dict[Place, SlotWanted] = {}
    for history in histories:
        for event in history.events:
            if isinstance(event, runs.WaitOpened) and event.slot is not None:
                place = history.org, event.slot.gate
                found[place] = max(found.get(place, event.slot), event.slot, key=_how_many)
    return found


def _how_many(slot: SlotWanted) -> float:
    return slot.bounds.at_once or inf


def _never_more_than_the_org_says(
    place: Place, messages: Sequence[Stored], wanted: SlotWanted, said: Sequence[Said]
) -> Iterator[Violation]:
    """Nobody is let in where as many are inside as may be by now, or might lately. Who is inside stays inside."""
    most, state = wanted.bounds.at_once, GateState()
    if most is None or not _is_shared(place, wanted):
        return
    counted = [Said(0.0, {}), *said]
    ends = [*(each.since for each in said), inf]
    for stored in messages:
        commit, at = _decoded(stored), stored.time
        lately = [
            _at_once(each, wanted, most)
            for each, until in zip(counted, ends, strict=True)
            if each.since <= at and until > at - LEARNT_WITHIN
        ]
        for event in commit.events:
            state = evolve(state, event, commit.time)
            if isinstance(event, SlotGranted) and len(state.holders) > max(lately):
                what = f"gate {place}: let in as number {len(state.holders)}; the org says {max(lately)}"
                yield Violation("P2", what, event.run)


def _is_shared(place: Place, wanted: SlotWanted) -> bool:
    return place[1] == derived("gate", place[0], "", wanted.name, wanted.key) or _is_of_all_runs(place)


def _is_of_all_runs(place: Place) -> bool:
    return place[1] == derived("gate", place[0], ALL_RUNS, ALL_RUNS, "")


def _at_once(said: Said, wanted: SlotWanted, most: int) -> int:
    limit = said.limits.get(wanted.name)
    if wanted.name == ALL_RUNS:  # Of which no workflow says anything.
        return (limit.at_once if limit is not None else None) or GATE_SLOTS
    return (limit.at_once if limit is not None else None) or most
