"""A run that goes on for months on real stores: what is before its seams leaves the log, and nobody who reads can tell."""

from collections.abc import Sequence

import pytest

from chassis.archive import LAST_SEGMENT, PAGE, SHORT, Lying, Since, commits_of, pages_of
from chassis.ports import Proposal
from chassis.postgres import Pool, pool
from contracts.codec import decode_envelope
from contracts.runs import RunCompleted, RunContinued, WaitEnded, WaitOpened
from contracts.subjects import RUNS
from contracts.subjects import run as run_subject
from gateway.runs.histories import StoredHistories, events_after
from projections.figures import Figures
from tests.integration.test_projections_service import Place, Service, archiver, place
from tests.integration.test_verifying import everything
from tests.projections.histories import ORG, Writer, scheduled, started, succeeded, value

__all__ = ["place"]

RUN = "long"
SUBJECT = run_subject(ORG, RUN)


def lengthen(writer: Writer, commits: int, segment: int, run: str = RUN) -> None:
    """A run of so many commits, each of two events; a new segment begins every so many commits."""
    for version in range(1, commits + 1):
        head = (started(receipt=f"receipt-{run}"),) if version == 1 else ()
        if version > 1 and (version - 1) % segment == 0:
            number = (version - 1) // segment + 1
            before = 2 * (version - 1) + number - 2
            head = (RunContinued(segment=number, events=before, opening=1, state=value({"org": ORG})),)
        tail = (
            (scheduled("one", version),) if version == 1 else (WaitEnded(wait="w"), scheduled("one", version))
        )
        writer.commit(run, *head, *tail)


def more(writer: Writer, first: int, last: int, seam: int) -> None:
    """More of the long run: one event in each commit, and a third segment that begins with one of them."""
    for version in range(first, last + 1):
        head = ()
        if version == seam:
            head = (RunContinued(segment=3, events=26 + version - first, opening=1, state=value({})),)
        writer.commit(RUN, *head, scheduled("one", version))


async def followed(place: Place, commits: int = 30, segment: int = 10) -> Writer:
    writer = Writer()
    lengthen(writer, commits, segment)
    writer.commit("other", started(receipt="other"), scheduled("one"))
    await place.store(writer)
    async with Service(place.settings):
        await place.until("select sum(head_version) from read.runs", commits + 1)
    return writer


async def left(place: Place) -> list[int]:
    return [decode_envelope(stored.body).version for stored in await place.js.log.history(SUBJECT)]


async def read(gateway: Pool, place: Place, since: Since, org: str = ORG) -> list[Lying]:
    found = [page async for page in pages_of(gateway, place.js.log, org, RUN, since)]
    assert all(len(page) <= PAGE for page in found)
    return [lying for page in found for lying in page]


def numbered(bodies: Sequence[bytes]) -> list[int]:
    """How many events are before each commit, counted one by one."""
    counts = [len(decode_envelope(body).events) for body in bodies]
    return [sum(counts[:place]) for place in range(len(counts))]


async def test_what_is_before_a_seam_leaves_the_log_and_the_run_goes_on(place: Place) -> None:
    writer = await followed(place)
    figures = Figures()
    await archiver(place, figures).round()
    assert figures.segments == 2
    assert await left(place) == list(range(21, 31))
    assert len(await place.js.log.history(run_subject(ORG, "other"))) == 1
    assert await everything(place) == []
    last = (await place.js.log.last([SUBJECT]))[SUBJECT]
    more = writer.commit(RUN, RunCompleted())
    await place.js.log.append([Proposal(subject=SUBJECT, body=more.body, expected=last.sequence)])
    async with Service(place.settings):
        await place.until("select status from read.runs where id = 'long'", "completed")
    assert (await place.rebuild()).differences == ()
    assert await everything(place) == []
    await archiver(place, figures).round()
    assert (figures.segments, figures.purged) == (2, 1)
    assert await left(place) == [31]


async def test_a_history_is_one_wherever_its_segments_lie(place: Place) -> None:
    writer = await followed(place)
    bodies = [stored.body for stored in writer.messages if stored.subject == SUBJECT]
    before = numbered(bodies)
    async with pool(place.roles["gateway"]) as gateway:
        for archived in (False, True):
            if archived:
                await archiver(place, Figures()).round()
            assert await commits_of(gateway, place.js.log, ORG, RUN) == bodies
            told = await read(gateway, place, Since())
            assert [lying.body for lying in told] == bodies
            assert [lying.before for lying in told] == before
            histories = StoredHistories(gateway, place.js.log)
            for after in (0, 1, 19, 20, 21, 41, 59, 61, 62, 63):
                events = await events_after(histories, ORG, RUN, after, 5)
                wanted = list(range(after + 1, min(after + 5, 62) + 1))
                assert [event.number for event in events or []] == wanted


async def test_a_long_history_is_read_from_the_seam_before_what_is_asked_for(place: Place) -> None:
    await followed(place, SHORT + 100, 100)
    async with pool(place.roles["gateway"]) as gateway:
        whole = await read(gateway, place, Since())
        assert [lying.version for lying in whole] == list(range(1, SHORT + 101))
        for since, first in (
            (Since(events=0), 1),
            (Since(events=199), 1),
            (Since(events=200), 101),
            (Since(events=LAST_SEGMENT), SHORT + 1),
            (Since(place=(1, 250)), 201),
            (Since(place=(1, 1)), 1),
            (Since(place=(2, 1)), SHORT + 1),
        ):
            assert await read(gateway, place, since) == whole[first - 1 :]


async def test_another_org_sees_no_seam_and_no_commit(place: Place) -> None:
    await followed(place)
    await archiver(place, Figures()).round()
    async with pool(place.roles["gateway"]) as gateway:
        assert await read(gateway, place, Since(events=LAST_SEGMENT), "acme") == []
        assert await events_after(StoredHistories(gateway, place.js.log), "acme", RUN, 0, 5) is None
        assert await gateway.fetchval("select count(*) from archive.seams") == 0


@pytest.mark.parametrize(("damaged", "first"), [(5, 1), (15, 11), (25, 21)])
async def test_a_segment_that_the_archive_has_not_whole_stays_with_all_that_follow(
    place: Place, damaged: int, first: int
) -> None:
    await followed(place)
    await place.pool.execute("update archive.commits set body = 'x' where version = $1", damaged)
    for _ in range(2):
        await archiver(place, Figures()).round()
        assert await left(place) == list(range(first, 31))


async def test_nothing_leaves_before_its_time(place: Place) -> None:
    await followed(place)
    figures = Figures()
    await archiver(place, figures, log_days=10_000.0).round()
    await archiver(place, figures, log_days="never").round()
    assert figures.segments == 0
    assert await left(place) == list(range(1, 31))


async def test_what_somebody_is_asked_stays_in_the_log_until_it_is_over(place: Place) -> None:
    writer = Writer()
    lengthen(writer, 12, 10)
    writer.commit(RUN, WaitOpened(wait="approval:ask", kind="approval", step="ask"))
    asked = len(writer.messages)
    lengthen(writer, 20, 5, "other")
    more(writer, 14, 30, 20)
    await place.store(writer)
    async with Service(place.settings):
        await place.until("select sum(head_version) from read.runs", 50)
        await archiver(place, Figures()).round()
        assert asked == 13
        assert await left(place) == list(range(11, 31)), "the seam behind the question stays with it"
        writer.commit(RUN, WaitEnded(wait="approval:ask"), succeeded("ask"))
        await place.store(writer, after=len(writer.messages) - 1)
        await place.until("select head_version from read.runs where id = 'long'", 31)
        await archiver(place, Figures()).round()
    assert await left(place) == list(range(20, 32))


async def test_places_of_an_older_log_say_nothing_of_this_one(place: Place) -> None:
    await followed(place)
    await place.streams.begin_epoch(RUNS, 2)
    await archiver(place, Figures()).round()
    assert await left(place) == list(range(1, 31))


async def test_what_leaves_the_archive_takes_its_seams_along(place: Place) -> None:
    writer = await followed(place)
    writer.commit(RUN, RunCompleted())
    await place.store(writer, after=len(writer.messages) - 1)
    async with Service(place.settings):
        await place.until("select status from read.runs where id = 'long'", "completed")
    await archiver(place, Figures()).round()
    await place.pool.execute("update archive.run_ids set ended = ended - interval '100 days'")
    await archiver(place, Figures(), archive_days=90.0).round()
    assert await place.pool.fetchval("select count(*) from archive.seams") == 0
