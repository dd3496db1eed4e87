"""Judges what crosses runs: children and their parents, failures and who is told, what the clock, events and polls start.

Runs are judged a few hundred at a time; those that have to do with others are kept here until all have been read.
"""

from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Final

from msgspec import Struct

from chassis.jetstream.connection import Connection
from chassis.ports import Stored
from contracts.codec import Decoder
from contracts.plans import Plan
from contracts.runs import ChildAsked, HandlerAsked, HandlerRefused
from contracts.subjects import DOMAIN, HOOKS, SCHEDULES
from contracts.triggers import Hook, RunEnd
from tests.chaos import stores
from tests.promises.checker import Promise
from tests.promises.children import (
    children_are_one_with_their_parents,
    failures_are_told,
    who_is_not_awaited_is_stopped,
)
from tests.promises.evidence import Evidence, History, Violation
from tests.promises.gates import never_too_many_are_inside
from tests.promises.gathering import every_start_is_done_once
from tests.promises.occasions import events_start_their_runs, followers
from tests.promises.polls import what_is_found_starts_once
from tests.promises.tables import Tables
from tests.promises.timetables import planned_times_are_kept

ACROSS: Final[Sequence[Promise]] = (
    planned_times_are_kept,
    events_start_their_runs,
    what_is_found_starts_once,
    children_are_one_with_their_parents,
    who_is_not_awaited_is_stopped,
    failures_are_told,
    never_too_many_are_inside,
    every_start_is_done_once,
)
"""GATES keeps the newest commits of each gate only: what the runs themselves tell of them is judged."""

_hook: Final = Decoder[Hook](Hook)


class Related(Struct, kw_only=True):
    """The runs that have to do with each other, and what the log says of triggers and schedules."""

    triggers: Sequence[Stored] = ()
    fires: Sequence[Stored] = ()
    hooks: Sequence[Hook] = ()
    """What triggers that follow something were told."""
    histories: list[History] = []
    plans: dict[str, Plan] = {}
    followed: frozenset[str] = frozenset()
    """Workflows whose runs' ends start others."""

    def keep(self, histories: Iterable[History], plans: Mapping[str, Plan]) -> None:
        """Those that have to do with others."""
        for history in histories:
            plan = plans.get(history.start.plan) if history.start is not None else None
            if self._is_one(history, plan):
                self.histories.append(history)
                if plan is not None and history.start is not None:
                    self.plans[history.start.plan] = plan

    def _is_one(self, history: History, plan: Plan | None) -> bool:
        start = history.start
        return start is not None and (
            start.cause.kind in {"run", "event", "schedule"}
            or start.workflow in self.followed
            or (plan is not None and (plan.on_failure is not None or plan.flow is not None))
            or any(isinstance(event, ChildAsked | HandlerAsked | HandlerRefused) for event in history.events)
        )

    def judged(self) -> list[Violation]:
        """Everything that is wrong with it."""
        evidence = Evidence(
            messages=[stored for history in self.histories for stored in history.stored],
            ledger=(),
            effects=(),
            claims={},
            wishes=(),
            plans=self.plans,
            tables=Tables(),
            now=datetime.now(UTC),
            triggers=self.triggers,
            fires=self.fires,
            hooks=self.hooks,
        )
        return [violation for promise in ACROSS for violation in promise(evidence, self.histories)]

    def counted(self) -> Counter[str]:
        """Runs by what started them."""
        return Counter(history.start.cause.kind for history in self.histories if history.start is not None)


async def related(log: Connection, strange: Collection[str]) -> Related:
    """As the log has triggers and schedules now; no run yet. `strange`: names under which poison lies."""
    triggers = [
        stored async for stored in stores.all_of(log, DOMAIN) if stored.subject.split(".")[2] == "trigger"
    ]
    followed: set[str] = set()
    following = followers(triggers)
    for follower in following.values():
        if isinstance(follower.newest.on, RunEnd):
            followed.update(follower.newest.on.workflows)
    told = [stored async for stored in stores.all_of(log, HOOKS)]
    return Related(
        triggers=triggers,
        fires=[
            stored
            async for stored in stores.all_of(log, SCHEDULES)
            if stored.subject.split(".")[2] not in strange
        ],
        hooks=[_hook(stored.body) for stored in told if stored.subject.split(".")[2] in following],
        histories=[],
        plans={},
        followed=frozenset(followed),
    )
