"""What the archive said, and what was decided by it, counts for minutes: meanwhile a history may leave the log whole.

Mutants of these two bounds survived every other test.
"""

import asyncio
from collections.abc import Sequence

import pytest

from chassis.past import Horizon, PastRun
from chassis.ports import Ambiguous, Away, Proposal
from chassis.testing.past import MemoryRunIds
from chassis.testing.stores import MemoryLog
from chassis.testing.world import SimulatedClock, World
from contracts.codec import encode, encode_bundle
from contracts.subjects import call, partition
from orchestrator.inputs import NotReady
from orchestrator.memory import Known
from orchestrator.past import VALID_SECONDS, Past
from orchestrator.record import PATIENCE_SECONDS
from orchestrator.run import Run
from tests.orchestrator.stories import START
from tests.orchestrator.test_past import ONE_COMMIT, LongAgo

GONE = PastRun(run="run-1", receipt="receipt-1", request=None, version=3, hash="ef" * 32)


def test_what_the_archive_said_a_while_ago_is_asked_again() -> None:
    world = World(1)
    clock, archived = SimulatedClock(world), dict[str, PastRun]()
    past = Past(MemoryRunIds(world, lambda _org: archived), Horizon(MemoryLog(world), clock), clock)
    never = Known(run=Run.new("org", "run-1"))

    async def story() -> None:
        with pytest.raises(NotReady):
            past.known(never, START, clock.now())
        await past.ask("org", "run-1")
        assert past.known(never, START, clock.now()) is never
        archived["run-1"] = GONE
        await asyncio.sleep(VALID_SECONDS + 1)
        with pytest.raises(NotReady):
            past.known(never, START, clock.now())
        await past.ask("org", "run-1")
        assert past.known(never, START, clock.now()).archived

    asked = world.loop.spawn("orchestrator", story())
    world.loop.run_until(asked.done, steps=10_000, seconds=300)
    world.loop.close()
    asked.result()


def test_a_decision_that_waited_for_minutes_is_not_stored() -> None:
    async def story(room: LongAgo) -> None:
        append = room.log.append
        back = room.world.loop.time() + PATIENCE_SECONDS + 10

        async def away_for_long(proposals: Sequence[Proposal]) -> list[int | None]:
            if room.world.loop.time() < back:
                raise Away("the log is away")
            return await append(proposals)

        room.log.append = away_for_long  # type: ignore[method-assign]  # In its place.
        body = encode_bundle([encode(room.keyed())])
        with pytest.raises(Ambiguous):
            await room.signals.request(call(partition("run-1")), body, PATIENCE_SECONDS + 60)
        assert room.left == []
        assert room.service.counts["started_over"] == 1

    LongAgo(ONE_COMMIT).play(story)
