"""The projections are ready while their rows are at most ten seconds old, whether or not much happens."""

from datetime import timedelta

from chassis.testing.clock import HandClock
from contracts.subjects import RUNS
from projections.figures import Progress
from projections.service import Line, Watch, reasons
from projections.streams import StreamFacts
from tests.projections.histories import NOON
from tests.projections.test_projector import Stream, Tables


class Runs:
    """A stream that was made a day before noon and of which only the end is known."""

    def __init__(self) -> None:
        self.last = 0

    async def facts(self, stream: str) -> StreamFacts:
        made = f"{NOON - timedelta(days=1):%Y-%m-%dT%H:%M:%S}.123456789Z"
        return StreamFacts(name=stream, created=made, epoch=1, first=1, last=self.last)

    async def purge(self, stream: str, subjects: str, before: int | None = None) -> int:
        raise AssertionError("who watches removes nothing")

    async def begin_epoch(self, stream: str, epoch: int) -> None:
        raise AssertionError("who watches begins nothing")


class Watched:
    """One projection that is watched and reads only when told so."""

    def __init__(self) -> None:
        self.clock, self.streams = HandClock(NOON), Runs()
        self.progress = Progress(name="runs", stream=RUNS, epoch=1, trouble="")
        self.lines = [Line(projection=Tables(), reader=Stream(), progress=self.progress)]

    async def look(self, after_noon: float) -> list[str]:
        """What keeps the service from being ready, so many seconds after noon."""
        self.clock.moved = after_noon
        known = {RUNS: await self.streams.facts(RUNS)}
        await Watch(self.streams, known, self.lines, self.clock).look()
        return reasons(self.lines, self.clock)

    def read(self) -> None:
        """All there is, which was stored just now."""
        self.progress.sequence = self.streams.last
        self.progress.last_time = self.clock.now().timestamp()


async def test_the_first_message_after_a_quiet_hour_makes_no_projection_late() -> None:
    watched = Watched()
    watched.streams.last = 1
    watched.read()
    assert await watched.look(3_600.0) == []
    watched.streams.last = 3
    assert await watched.look(3_601.0) == []
    assert watched.progress.behind == 2
    assert await watched.look(3_611.0) == ["runs is 2 messages (11 s) behind"]


async def test_the_first_message_that_is_ever_read_makes_no_projection_late() -> None:
    watched = Watched()
    assert await watched.look(0.0) == []
    watched.streams.last = 1
    assert await watched.look(1.0) == []
    assert watched.progress.lag_seconds(watched.clock.now().timestamp()) == 1.0


async def test_what_waits_unread_when_the_service_starts_can_be_as_old_as_its_stream() -> None:
    watched = Watched()
    watched.streams.last = 5
    assert await watched.look(0.0) == ["runs is 5 messages (86400 s) behind"]
    watched.read()
    assert await watched.look(1.0) == []


async def test_who_reads_old_messages_is_late_until_all_are_read() -> None:
    watched = Watched()
    watched.streams.last = 5
    watched.read()
    watched.streams.last = 9
    assert await watched.look(60.0) == ["runs is 4 messages (60 s) behind"]
    watched.progress.sequence = 9
    assert await watched.look(61.0) == []
