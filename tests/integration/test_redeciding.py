"""What deciding the past again promises on real stores: every run once, from the archive and from the log, whatever the pages."""

import hashlib
from datetime import UTC, datetime, timedelta
from typing import Final

import pytest
from msgspec import structs

from chassis.ports import Proposal
from contracts.reference import VERSION
from contracts.subjects import run as run_subject
from deploy.operator import redeciding
from deploy.operator.reach import Stores
from deploy.operator.redeciding import Parting, Redeciding, Tally
from deploy.refusals import Refused
from projections.streams import JetStreamStreams
from tests.histories.corpus import Recorded, recorded
from tests.integration.test_projections_service import Place, Service, place
from tests.projections.histories import Writer

__all__ = ["place"]

# Runs that were recorded at different times may have one id: here it is one log, so the last of them.
RUNS: Final = list({run.run: run for run in recorded(VERSION) if run.expressions}.values())
BEGINNING: Final = datetime(1970, 1, 1, tzinfo=UTC)


async def store(place: Place, runs: list[Recorded], first: int = 0, last: int = 1_000) -> None:
    """These runs' commits, from one place in their histories to another, side by side as an orchestrator would."""
    for version in range(first, last):
        for run in runs:
            if version < len(run.commits):
                subject = run_subject(run.org, run.run)
                before = (await place.js.log.last([subject])).get(subject)
                expected = before.sequence if before is not None else 0
                assert await place.js.log.append([Proposal(subject, run.bodies[version], expected)]) != [None]


async def decided(place: Place, since: datetime = BEGINNING, org: str = "") -> tuple[list[Parting], Tally]:
    past = Redeciding(Stores(log=place.js, archive=place.pool), since, org)
    return [parting async for parting in past.partings()], past.tally


@pytest.fixture(autouse=True)
async def plans(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    for plan in {run.plan for run in RUNS}:
        if plan is not None:
            await place.js.blobs.put(plan.encode())
    monkeypatch.setattr(redeciding, "PAGE", 5)


async def archived(place: Place, commits: int) -> None:
    async with Service(structs.replace(place.settings, retention_days="never")):
        await place.until("select count(*) from archive.commits", commits)


async def test_every_recorded_run_is_decided_as_it_was_wherever_it_lies(place: Place) -> None:
    await store(place, RUNS[:-4])
    await store(place, RUNS[-4:-2], last=2)
    await archived(
        place, sum(len(run.commits) for run in RUNS[:-4]) + sum(min(2, len(r.commits)) for r in RUNS[-4:-2])
    )
    await store(place, RUNS[-4:-2], first=2)
    await store(place, RUNS[-2:])  # The archive knows nothing of these.
    partings, tally = await decided(place)
    assert partings == []
    assert (tally.runs, tally.commits) == (len(RUNS), sum(len(run.commits) for run in RUNS))
    assert tally.events == sum(len(commit.events) for run in RUNS for commit in run.decoded())
    assert await decided(place, org="another") == (
        [],
        Tally(seconds=pytest.approx(0, abs=60), cpu_seconds=pytest.approx(0, abs=60)),
    )


async def test_what_did_not_move_since_then_is_left_alone(place: Place) -> None:
    await store(place, RUNS)
    await archived(place, sum(len(run.commits) for run in RUNS))
    ends = {run.run: run.decoded()[-1].time for run in RUNS}
    for since in sorted(set(ends.values()))[:: max(1, len(ends) // 4)]:
        for moment in (since, since + timedelta(microseconds=1)):
            _, tally = await decided(place, moment)
            assert tally.runs == sum(end >= moment for end in ends.values())


async def test_a_plan_that_is_gone_an_event_from_the_future_and_a_lost_beginning_are_told(
    place: Place,
) -> None:
    first, second, third, *_ = [run for run in RUNS if len(run.commits) >= 3]
    await store(place, [first, second, third])
    writer = Writer()
    writer.three_steps("without a plan".replace(" ", "-"))
    await place.store(writer)
    await archived(place, sum(len(run.commits) for run in (first, second, third)) + 4)
    strange = second.bodies[2].replace(b'"type":"', b'"type":"dreamt.', 1)
    await place.pool.execute(
        "update archive.commits set body = $1 where run = $2 and version = 3", strange, second.run
    )
    await place.pool.execute("delete from archive.commits where run = $1 and version = 1", third.run)
    partings, tally = await decided(place)
    told = {parting.run: parting.reason for parting in partings}
    assert set(told) == {"without-a-plan", second.run, third.run}
    assert told["without-a-plan"] == f"its plan {'ab' * 32} is not there"
    assert told[second.run].startswith("it cannot be read: dreamt.")
    assert told[third.run] == "its first commits are not there"
    assert (tally.runs, tally.diverged) == (4, 3)


async def test_every_planted_decision_is_found(place: Place) -> None:
    await store(place, RUNS)
    await archived(place, sum(len(run.commits) for run in RUNS))
    planted = set[str]()
    for run in RUNS:
        for version, body in enumerate(run.bodies, 1):
            changed = body.replace(
                b'"type":"attempt.scheduled","step":"', b'"type":"attempt.scheduled","step":"x', 1
            )
            if changed == body:
                changed = body.replace(b'"timeout_s":', b'"timeout_s":7', 1)
            if changed != body and run.run not in planted:
                await place.pool.execute(
                    "update archive.commits set body = $1, hash = $2 where run = $3 and version = $4",
                    changed, hashlib.sha256(changed).digest(), run.run, version,
                )  # fmt: skip
                planted.add(run.run)
    partings, _ = await decided(place)
    assert len(planted) > 15
    assert {parting.run for parting in partings} == planted


async def test_an_archive_that_has_not_followed_into_a_new_epoch_is_refused(place: Place) -> None:
    await store(place, RUNS[:1])
    await archived(place, len(RUNS[0].commits))
    await JetStreamStreams(place.js.connection).begin_epoch("RUNS", 2)
    await place.js.log.end()
    with pytest.raises(Refused, match="not yet followed RUNS into its epoch 2"):
        await decided(place)
