"""Which of the starts that come one after the other go on: the newest alone, or one for many. Pure.

A debounce lets the newest in when nothing came for its time; whoever came before it is superseded as soon as a newer one is
there, and whoever came before the one that went on last does not go on either. A batch lets the first in when there are
enough of them, or its time is over; it stands for the others, which wait until it surely has what started them.
"""

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Final

from contracts.gates import Batch, Debounce, GateState, SlotGranted
from contracts.limits import BATCH_BYTES
from orchestrator.wishes import Asking, Decided

BATCHES_AT_ONCE: Final = 20
"""Of one gate, whose runs do not all know yet for whom they stand: a commit has to have room for their names."""


def newest_of(state: GateState, debounce: Debounce, asking: Sequence[Asking], now: datetime) -> Decided:
    """Who goes on, and in whose place."""
    held = {holder.run for holder in state.holders}
    inside = tuple(each.run for each in asking if each.run in held)
    waiting = sorted((each for each in asking if each.run not in held), key=_in_time)
    superseded: dict[str, str] = {}
    if (gone_on := state.newest) is not None:
        late = [each for each in waiting if _in_time(each) <= (gone_on.since, gone_on.run)]
        superseded |= {each.run: gone_on.run for each in late}
        waiting = waiting[len(late) :]
    if not waiting:
        return Decided(inside=inside, superseded=superseded)
    first, newest = state.first or waiting[0].since, waiting[-1]
    superseded |= {each.run: newest.run for each in waiting[:-1]}
    due = newest.since + timedelta(seconds=debounce.seconds)
    if debounce.at_most is not None:
        due = min(due, first + timedelta(seconds=debounce.at_most))
    if now < due:
        return Decided(inside=inside, superseded=superseded, waiting=(newest.run,), first=first, again=due)
    granted = SlotGranted(run=newest.run, opening=newest.opening, grant=state.grants + 1, since=newest.since)
    return Decided(events=(granted,), inside=(*inside, newest.run), superseded=superseded)


def batches_of(state: GateState, batch: Batch, asking: Sequence[Asking], now: datetime) -> Decided:
    """Who stands for whom."""
    held = {holder.run for holder in state.holders}
    gathered = {member for holder in state.holders for member in holder.members}
    inside = tuple(each.run for each in asking if each.run in held)
    waiting = sorted((each for each in asking if each.run not in gathered), key=_in_time)
    events = list[SlotGranted]()
    room = BATCHES_AT_ONCE - len(state.holders)
    while waiting and len(events) < room:
        together = _together(waiting, batch)
        is_whole = len(together) < len(waiting) or len(together) >= batch.size
        if not is_whole and now < waiting[0].since + timedelta(seconds=batch.seconds):
            break
        first = together[0]
        events.append(
            SlotGranted(
                run=first.run,
                opening=first.opening,
                grant=state.grants + len(events) + 1,
                members=tuple(each.run for each in together),
            )
        )
        waiting = waiting[len(together) :]
    is_time = bool(waiting) and len(events) < room
    return Decided(
        events=tuple(events),
        inside=(*inside, *(event.run for event in events)),
        waiting=tuple(each.run for each in waiting),
        again=waiting[0].since + timedelta(seconds=batch.seconds) if is_time else None,
    )


def _together(waiting: Sequence[Asking], batch: Batch) -> Sequence[Asking]:
    """The first of them, as many as one run may stand for; one at the least."""
    size = 0
    for number, each in enumerate(waiting[: batch.size]):
        size += each.size
        if number and size > BATCH_BYTES:
            return waiting[:number]
    return waiting[: batch.size]


def _in_time(asking: Asking) -> tuple[datetime, str]:
    return asking.since, asking.run
