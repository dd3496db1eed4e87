"""What the tables say about schedules, and who is found that should have been looked at, on a real Postgres."""

from collections.abc import AsyncIterator
from datetime import datetime, timedelta
from functools import reduce
from pathlib import Path
from typing import Any

import pytest
from msgspec import Struct

from chassis.ports import Stored
from chassis.postgres import Pool, pool
from chassis.testing.examples import domain_commit
from contracts.codec import encode
from contracts.errors import Failure
from contracts.schedules import (
    Cron,
    FirePlanned,
    FireRefused,
    FireStarted,
    Schedule,
    ScheduleCommit,
    ScheduleEvent,
    ScheduleFired,
    ScheduleMissed,
    ScheduleState,
)
from contracts.triggers import ScheduleChanged, ScheduleCreated, TriggerBound, TriggerDeleted, TriggerDisabled
from deploy.operator.findings import Finding
from deploy.operator.planned import missed
from deploy.servers import PostgresAddress
from gateway.rejected import Rejected
from gateway.triggers.queries import TriggerQueries
from orchestrator.firing import evolve
from projections.domain_tables import DomainTables
from projections.figures import Figures, Progress
from projections.guard import FOLLOWED
from projections.projector import Projection, advance
from projections.queries import BEGIN, ROW_TYPES
from projections.schedules import SETTLED, ScheduleTables
from projections.stragglers import BEHIND, OverdueSchedules
from tests.migrated import migrated
from tests.projections.histories import NOON, ORG, Letterbox

MINUTE = timedelta(minutes=1)
HOURLY = Schedule(when=Cron(expression="@hourly"))


class Place(Struct):
    """The tables, what they follow, and what reads them."""

    pool: Pool
    queries: TriggerQueries
    letters: Letterbox
    figures: Figures
    fires: list[Stored] = []
    domain: list[Stored] = []
    state: ScheduleState = ScheduleState()
    now: datetime = NOON

    async def decided(self, *events: ScheduleEvent, schedule: str = "s1") -> None:
        self.state = reduce(evolve, events, self.state)
        commit = ScheduleCommit(
            id=f"c{len(self.fires)}",
            org=ORG,
            schedule=schedule,
            version=len(self.fires) + 1,
            events=events,
            state=self.state,
            time=self.now,
            actor="timer",
            engine_version="0.1.0",
            prev_hash="",
        )
        self.fires.append(Stored(f"sched.{ORG}.{schedule}", len(self.fires) + 1, encode(commit)))
        await self.project(ScheduleTables(self.pool, self.letters, self.figures), self.fires)

    async def trigger(self, *events: Any) -> None:
        commit = domain_commit(
            "trigger", "s1", *events, org=ORG, version=len(self.domain) + 1, time=self.now, actor="key:1"
        )
        self.domain.append(Stored(f"evt.{ORG}.trigger.s1", len(self.domain) + 1, encode(commit)))
        await self.project(DomainTables(self.pool, self.letters, self.figures), self.domain)

    async def project(self, projection: Projection, messages: list[Stored]) -> None:
        position = await projection.position()
        rest = [stored for stored in messages if stored.sequence > position.sequence]
        if rest:
            progress = Progress(name=projection.name, stream=projection.stream)
            await advance(projection, rest, position, 1, progress)

    async def overdue(self, later: timedelta) -> list[str]:
        found = await OverdueSchedules(self.pool).due(NOON + later, None, 100)
        return [each.run for each in found]


@pytest.fixture
async def place(database: PostgresAddress, tmp_path: Path) -> AsyncIterator[Place]:
    roles = await migrated(database, tmp_path / "passwords")
    async with (
        pool(roles["projector"], begins_with=ROW_TYPES) as projector,
        pool(roles["gateway"]) as gateway,
    ):
        for each in FOLLOWED:
            await projector.execute(
                BEGIN.format(schema="read"), each.projection, each.stream, 1, 0, "then", "one", NOON
            )
        place = Place(projector, TriggerQueries(gateway), Letterbox(), Figures())
        await place.trigger(ScheduleCreated(name="s", workflow="w", schedule=HOURLY))
        await place.trigger(TriggerBound(version=1, plan="ab" * 32))
        yield place


def fired(planned: datetime, run: str, **more: Any) -> ScheduleFired:
    return ScheduleFired(
        planned=planned, run=run, receipt=f"r-{run}", workflow="w", version=1, plan="ab" * 32, **more
    )


async def test_a_schedule_shows_when_it_fires_next_and_what_became_of_the_last(place: Place) -> None:
    view = await place.queries.get(ORG, "s1")
    assert (view.kind, view.webhook, view.fires, view.bound_version) == ("schedule", None, None, 1)
    assert view.schedule is not None
    assert b"@hourly" in bytes(view.schedule)
    await place.decided(FirePlanned(revision=2, next=NOON + 60 * MINUTE))
    await place.decided(fired(NOON + 60 * MINUTE, "run1"), FirePlanned(revision=2, next=NOON + 120 * MINUTE))
    fires = (await place.queries.get(ORG, "s1")).fires
    assert fires is not None
    assert (fires.last, fires.last_run, fires.last_result) == (NOON + 60 * MINUTE, "run1", "pending")
    await place.decided(FireStarted(planned=NOON + 60 * MINUTE, run="run1"))
    fires = (await place.queries.get(ORG, "s1")).fires
    assert fires is not None
    assert (fires.next, fires.last_result, fires.fired) == (NOON + 120 * MINUTE, "started", 1)
    [listed] = (await place.queries.list(ORG, None, None, 10)).items
    assert listed.fires == fires
    await place.trigger(TriggerDisabled())
    fires = (await place.queries.get(ORG, "s1")).fires
    assert fires is not None
    assert fires.next is None


async def test_what_was_missed_or_refused_stands_among_its_deliveries(place: Place) -> None:
    span = ScheduleMissed(first=NOON, last=NOON + 5 * MINUTE, count=6, policy="once", made_up=1)
    await place.decided(span, fired(NOON + 5 * MINUTE, "run1", made_up=True))
    error = Failure(code="poison", message="no code can handle it")
    await place.decided(FireRefused(planned=NOON + 5 * MINUTE, run="run1", error=error))
    view = await place.queries.get(ORG, "s1")
    assert view.fires is not None
    assert (view.fires.missed, view.fires.last_missed, view.fires.refused) == (6, NOON + 5 * MINUTE, 1)
    assert (view.fires.last_result, view.fires.last_error) == ("refused", "no code can handle it")
    deliveries = (await place.queries.deliveries(ORG, "s1", None, None, 10)).items
    assert {each.result: each.run for each in deliveries} == {"missed": None, "refused": None}
    [missed] = (await place.queries.deliveries(ORG, "s1", "missed", None, 10)).items
    assert missed.reason.startswith("6 planned times from 2026-")


async def test_an_operator_is_told_what_was_missed_within_a_day_and_what_to_do(place: Place) -> None:
    clean = "no schedule has missed a planned time within a day"
    assert await missed(place.pool, NOON) == Finding(level="ok", what=clean)
    await place.decided(ScheduleMissed(first=NOON, last=NOON + 5 * MINUTE, count=6, policy="skip"))
    found = await missed(place.pool, NOON + 60 * MINUTE)
    assert found.level == "note"
    assert f"1 schedule has missed planned times within a day, last 's' (trigger s1 of {ORG}, " in found.what
    assert "deliveries?result=missed" in found.what
    assert await missed(place.pool, NOON + 25 * 60 * MINUTE) == Finding(level="ok", what=clean)


async def test_another_org_sees_nothing_of_it(place: Place) -> None:
    await place.decided(FirePlanned(revision=2, next=NOON))
    with pytest.raises(Rejected):
        await place.queries.get("other", "s1")
    assert (await place.queries.list("other", None, None, 10)).items == []


async def test_commits_that_come_again_change_nothing(place: Place) -> None:
    await place.decided(fired(NOON, "run1"))
    again = ScheduleTables(place.pool, place.letters, place.figures)
    position = await again.position()
    double = [Stored(place.fires[0].subject, 2, place.fires[0].body)]
    await advance(again, double, position, 1, Progress(name="schedules", stream="SCHEDULES"))
    view = await place.queries.get(ORG, "s1")
    assert view.fires is not None
    assert view.fires.fired == 1


async def test_what_nobody_can_read_is_reported_and_passed_by(place: Place) -> None:
    place.fires.append(Stored(f"sched.{ORG}.s1", 1, b"{"))
    place.fires.append(Stored(f"sched.{ORG}.s1", 2, encode({"id": "x"})))
    await place.project(ScheduleTables(place.pool, place.letters, place.figures), place.fires)
    assert place.figures.troubles["malformed"] == 2
    await place.decided(FirePlanned(revision=2, next=NOON))
    assert (await place.queries.get(ORG, "s1")).fires is not None


async def test_a_schedule_is_found_when_its_time_is_over_and_its_owner_has_not_looked(place: Place) -> None:
    await place.decided(FirePlanned(revision=2, next=NOON + 60 * MINUTE))
    assert await place.overdue(60 * MINUTE + BEHIND) == []
    assert await place.overdue(60 * MINUTE + BEHIND + timedelta(seconds=1)) == ["s1"]


async def test_a_schedule_is_found_when_a_run_that_was_asked_for_has_not_started(place: Place) -> None:
    await place.decided(fired(NOON, "run1"), FirePlanned(revision=2, next=NOON + 60 * MINUTE))
    assert await place.overdue(SETTLED + BEHIND) == []
    assert await place.overdue(SETTLED + BEHIND + timedelta(seconds=1)) == ["s1"]
    await place.decided(FireStarted(planned=NOON, run="run1"))
    assert await place.overdue(30 * MINUTE) == []


async def test_a_schedule_is_found_when_its_owner_has_not_seen_a_change(place: Place) -> None:
    soon = BEHIND + timedelta(seconds=1)
    assert await place.overdue(soon) == ["s1"], "nobody has looked at all"
    await place.decided(FirePlanned(revision=2, next=NOON + 60 * MINUTE))
    assert await place.overdue(soon) == []
    await place.trigger(ScheduleChanged(name="t", schedule=HOURLY))
    assert await place.overdue(BEHIND) == []
    assert await place.overdue(soon) == ["s1"]
    await place.trigger(TriggerDeleted())
    assert await place.overdue(soon) == ["s1"]
    await place.decided(FirePlanned(revision=4))
    assert await place.overdue(timedelta(days=365)) == []


async def test_a_schedule_that_was_deleted_before_anybody_looked_is_found_until_its_owner_has(
    place: Place,
) -> None:
    await place.trigger(TriggerDeleted())
    assert await place.overdue(BEHIND) == []
    assert await place.overdue(BEHIND + timedelta(seconds=1)) == ["s1"]
    await place.decided(FirePlanned(revision=3))
    assert await place.overdue(timedelta(days=365)) == []
