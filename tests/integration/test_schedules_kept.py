"""What SCHEDULES and INBOX promise on a real nats-server: the newest commits stay, and a schedule is woken in time."""

import asyncio
from datetime import UTC, datetime, timedelta

from chassis.clock import SystemClock
from chassis.jetstream import jetstream
from chassis.ports import Proposal
from chassis.settings import Settings
from contracts.codec import decode_message
from contracts.limits import FIRES_KEPT
from contracts.messages import ScheduleLook
from contracts.subjects import SCHEDULES, partition
from contracts.subjects import schedule as schedule_subject
from deploy.testing.embedded import NatsServer


async def test_of_a_schedule_the_newest_commits_stay_and_no_append_is_refused(streams: NatsServer) -> None:
    """With a bound of twenty, so that it does not take a thousand syncs."""
    subject, other = schedule_subject("org", "busy"), schedule_subject("org", "seldom")
    async with jetstream(Settings(nats_url=streams.url), "tests", SystemClock()) as js:
        config = (await js.connection.api(f"STREAM.INFO.{SCHEDULES}"))["config"]
        assert (config["discard"], config["max_msgs_per_subject"]) == ("new", FIRES_KEPT)
        await js.connection.api(f"STREAM.UPDATE.{SCHEDULES}", config | {"max_msgs_per_subject": 20})
        assert await js.schedules.append([Proposal(other, b"first", 0)]) == [1]
        expected = 0
        for number in range(30):
            [sequence] = await js.schedules.append([Proposal(subject, b"%d" % number, expected)])
            assert sequence is not None
            expected = sequence
        assert (await js.schedules.last([subject, other]))[subject].body == b"29"
        assert [int(stored.body) for stored in await js.schedules.history(subject)] == list(range(10, 30))
        assert [stored.body for stored in await js.schedules.history(other)] == [b"first"]


async def test_a_schedule_is_woken_once_at_the_moment_that_was_said_last(streams: NatsServer) -> None:
    async with jetstream(Settings(nats_url=streams.url), "tests", SystemClock()) as js:
        ownership = js.ownership()
        async with asyncio.TaskGroup() as group:
            running = group.create_task(js.run())
            now = datetime.now(UTC)
            for seconds in (600.0, 2.0):
                due = now + timedelta(seconds=seconds)
                await js.inbox.wake_at([(ScheduleLook(org="org", run="s1", due=due), due)])
            heard = []
            async with asyncio.timeout(60):
                async for arrived in ownership.arrivals():
                    if not isinstance(arrived, int):
                        heard += [decode_message(arrival.body) for arrival in arrived]
                        assert {arrival.partition for arrival in arrived} == {partition("s1")}
                        break
            assert heard == [ScheduleLook(org="org", run="s1", due=now + timedelta(seconds=2))]
            running.cancel()
