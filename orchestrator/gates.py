"""Who may pass a gate now. Pure: told the time, the limit, and who asks; it asks for nothing.

Rules that hold here:
  * a slot is given once: a run that is inside is inside, however often it asks, and frees it by its own end alone;
  * never more are inside than the limit allows when somebody is let in; a limit that is lowered sends nobody out;
  * who asks first goes first among those of the same rank, and its rank is the run's, not the question's;
  * a free slot and somebody who waits for it do not exist side by side.

A run is known by its opening, too: opened again it is another one, and what is said of the earlier one touches it no more.
Behind a gate that has a rate alone nobody stays: a run leaves it as soon as it has heard that it is in.

Who waits stands in the runs' histories: a run asks again when somebody looks at it. What is recorded here is who was let in and who has
left, and which few are next, for the next owner to have them ask: the events of a small history, with the state whole in its newest
commit, as a schedule's is.
"""

from collections.abc import Collection, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Final, assert_never

from msgspec import structs

from contracts.gates import (
    BatchBegan,
    GateEvent,
    GateLimit,
    GateState,
    Holder,
    Newest,
    SlotFreed,
    SlotGranted,
    SlotsAwaited,
)
from contracts.limits import GATE_NEXT, GATE_SLOTS
from orchestrator.gathering import batches_of, newest_of
from orchestrator.wishes import Asking, Decided

_NEARLY: Final = 1e-9
"""Numbers of a rate are not whole: so little less than one is one."""
AT_ONCE: Final = 200
"""One decision lets in, and hears of, no more than this: it has to fit into a commit. Whoever is left is next."""


def evolve(state: GateState, event: GateEvent, at: datetime) -> GateState:
    """Fold one recorded fact into the state. Total."""
    match event:
        case SlotGranted():
            return _granted(state, event, at)
        case SlotFreed():
            left = tuple(each for each in state.holders if (each.run, each.grant) != (event.run, event.grant))
            return structs.replace(state, holders=left)
        case SlotsAwaited():
            return structs.replace(state, next=event.runs, first=event.since)
        case BatchBegan():
            holders = (
                structs.replace(each, began=True)
                if (each.run, each.grant) == (event.run, event.grant)
                else each
                for each in state.holders
            )
            return structs.replace(state, holders=tuple(holders))
    assert_never(event)


def _granted(state: GateState, event: SlotGranted, at: datetime) -> GateState:
    holder = Holder(run=event.run, opening=event.opening, grant=event.grant, since=at, members=event.members)
    others = tuple(each for each in state.holders if each.run != event.run)
    state = structs.replace(
        state,
        holders=(*others, holder),
        grants=max(state.grants, event.grant),
        level=event.level,
        passed=at,
    )
    if event.since is None:
        return state
    return structs.replace(state, first=None, newest=Newest(run=event.run, since=event.since))


def decide(state: GateState, limit: GateLimit, asking: Sequence[Asking], now: datetime) -> Decided:
    """Who is let in now, of all who ask. Of a run that asks, what was before is gone (`freed`)."""
    if limit.debounce is not None:
        return newest_of(state, limit.debounce, asking, now)
    if limit.batch is not None:
        return batches_of(state, limit.batch, asking, now)
    held = {holder.run for holder in state.holders}
    inside = tuple(each.run for each in asking if each.run in held)
    waiting = sorted(
        {each.run: each for each in asking if each.run not in held}.values(),
        key=lambda each: (each.rank, each.since, each.run),
    )
    events: list[GateEvent] = []
    level = _level(state, limit, now)
    places = min(AT_ONCE, max(0, (limit.at_once or GATE_SLOTS) - len(held)))
    while waiting and len(events) < places and level >= 1 - _NEARLY:
        level = max(0.0, level - 1) if limit.rate is not None else level
        first = waiting.pop(0)
        events.append(
            SlotGranted(
                run=first.run,
                opening=first.opening,
                grant=state.grants + len(events) + 1,
                level=_kept(limit, level),
            )
        )
    let_in = tuple(event.run for event in events if isinstance(event, SlotGranted))
    is_full = bool(waiting) and len(events) >= places
    refused = _refused(limit, waiting)
    return Decided(
        events=tuple(events),
        inside=(*inside, *let_in),
        refused=refused,
        waiting=tuple(each.run for each in waiting[: len(waiting) - len(refused)]),
        stop=_stop(state, limit, waiting) if is_full else (),
        again=_again(limit, level, now) if waiting and not is_full else None,
    )


def awaited(state: GateState, decided: Decided) -> list[GateEvent]:
    """Who is next, where something else is recorded anyway, or where nobody waits any more, or twice as many do.

    Of whom only the newest goes on, each that is the newest.
    """
    runs, first = decided.waiting[:GATE_NEXT], decided.first
    is_news = (
        bool(decided.events) or (not runs) or len(runs) >= max(1, 2 * len(state.next)) or first is not None
    )
    if not is_news or (runs, first) == (state.next, state.first):
        return []
    return [SlotsAwaited(runs=runs, since=first)]


def freed(
    state: GateState,
    said: Mapping[str, int],
    asking: Sequence[Asking] = (),
    took: Collection[str] = (),
    told: Collection[str] = (),
) -> list[GateEvent]:
    """Who has left: of whom it was said (up to which opening), and whoever asks again in a later one.

    `took`: of those that stand for a batch, who has what started it. `told`: who knows that another one stands for it.
    """
    anew = {each.run: each.opening - 1 for each in asking}
    gone: list[GateEvent] = []
    for holder in state.holders:
        if holder.members:
            gone += _of_batch(holder, took, told, has_left=holder.opening <= said.get(holder.run, 0))
        elif holder.opening <= said.get(holder.run, 0):
            gone.append(SlotFreed(run=holder.run, grant=holder.grant))
        elif holder.opening <= anew.get(holder.run, 0):
            gone.append(SlotFreed(run=holder.run, grant=holder.grant, why="asked"))
    return gone[:AT_ONCE]


def _of_batch(
    holder: Holder, took: Collection[str], told: Collection[str], *, has_left: bool
) -> list[GateEvent]:
    """The others may end when the one that stands for them has what started them, and are forgotten when they know it."""
    if holder.began:
        is_told = all(member in told for member in holder.members[1:])
        return [SlotFreed(run=holder.run, grant=holder.grant, why="told")] if is_told else []
    if not has_left:
        return []
    if holder.run in took:
        return [BatchBegan(run=holder.run, grant=holder.grant)]
    return [SlotFreed(run=holder.run, grant=holder.grant, why="gone")]


def _level(state: GateState, limit: GateLimit, now: datetime) -> float:
    """How many the rate lets in at once now. Time that goes back gives nothing, and takes nothing."""
    if limit.rate is None:
        return float("inf")
    if state.level is None or state.passed is None:
        return float(limit.rate.count)
    gone = max(0.0, (now - state.passed).total_seconds())
    return min(float(limit.rate.count), state.level + gone * limit.rate.count / limit.rate.seconds)


def _kept(limit: GateLimit, level: float) -> float:
    return level if limit.rate is not None else 0.0


def _again(limit: GateLimit, level: float, now: datetime) -> datetime | None:
    if limit.rate is None:
        return None
    return now + timedelta(seconds=(1 - level) * limit.rate.seconds / limit.rate.count)


def _refused(limit: GateLimit, waiting: Sequence[Asking]) -> tuple[str, ...]:
    """The last of those who wait: those who were there before them stay."""
    if limit.when_full == "skip":
        return tuple(each.run for each in waiting)
    return tuple(each.run for each in waiting[limit.queue :])


def _stop(state: GateState, limit: GateLimit, waiting: Sequence[Asking]) -> tuple[str, ...]:
    """One for each who waits, and no more than are too many then."""
    if limit.when_full != "cancel_oldest":
        return ()
    return tuple(holder.run for holder in state.holders[: len(waiting)])
