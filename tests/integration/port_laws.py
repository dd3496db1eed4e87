"""What every implementation of the ports promises. The real ones and the simulator's fakes keep the same laws.

Each law takes ports and names of its own, and awaits nothing but the ports and `asyncio.sleep`: it holds on a virtual
clock too. Laws of one port may share a server, as long as each is given another `place`.
"""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import aclosing, asynccontextmanager
from datetime import datetime, timedelta
from typing import Any, TypeAlias

import pytest

from chassis.ports import (
    Ambiguous,
    Arrival,
    Blobs,
    Inbox,
    Letters,
    Log,
    Lying,
    NobodyThere,
    Ownership,
    Proposal,
    Reader,
    Signals,
    Stored,
    TaskDelivery,
    Tasks,
    TaskSource,
)
from contracts import subjects
from contracts.codec import encode
from contracts.messages import Wake
from contracts.payloads import Blob

LONG = 60.0
"""Far more than anything here takes; a law that fails ends."""
ORG = "org_laws"


async def until(holds: Callable[[], bool], within: float = LONG) -> None:
    async with asyncio.timeout(within):
        while not holds():
            await asyncio.sleep(0.01)


def commit(place: str, body: bytes = b"{}", expected: int = 0, **headers: str) -> Proposal:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return Proposal(subjects.run(ORG, place), body, expected, named)


# --- Log --------------------------------------------------------------------------------------


async def the_first_commit_needs_an_empty_subject(log: Log, place: str) -> None:
    [first] = await log.append([commit(place, b"1")])
    assert first is not None
    assert await log.append([commit(place, b"2")]) == [None]
    [second] = await log.append([commit(place, b"2", first)])
    assert second is not None
    assert second > first


async def an_expectation_that_is_too_new_is_refused(log: Log, place: str) -> None:
    [first] = await log.append([commit(place, b"1")])
    assert first is not None
    assert await log.append([commit(place, b"2", first + 1_000)]) == [None]
    assert await log.append([commit(f"{place}x", b"2", first)]) == [None]


async def an_exact_repeat_gives_its_own_sequence(log: Log, place: str) -> None:
    [first] = await log.append([commit(place, b"1")])
    assert first is not None
    assert await log.append([commit(place, b"1")]) == [first]
    [second] = await log.append([commit(place, b"2", first)])
    # Also when another commit lies on top by now.
    assert await log.append([commit(place, b"1")]) == [first]
    assert await log.append([commit(place, b"2", first)]) == [second]
    assert [stored.body for stored in await log.history(subjects.run(ORG, place))] == [b"1", b"2"]


async def one_stale_proposal_stops_no_other(log: Log, place: str, count: int) -> None:
    stale = [f"{place}-{number}" for number in range(0, count, 3)]
    await log.append([commit(each, b"before") for each in stale])
    sequences = await log.append([commit(f"{place}-{number}", b"now") for number in range(count)])
    assert [sequence is None for sequence in sequences] == [number % 3 == 0 for number in range(count)]
    newest = await log.last([subjects.run(ORG, f"{place}-{number}") for number in range(count)])
    assert [newest[subjects.run(ORG, f"{place}-{number}")].body for number in range(count)] == [
        b"now" if number % 3 else b"before" for number in range(count)
    ]
    # What was stored is where it was said to be.
    for number, sequence in enumerate(sequences):
        if sequence is not None:
            assert newest[subjects.run(ORG, f"{place}-{number}")].sequence == sequence


async def no_subject_stands_twice_in_one_append(log: Log, place: str) -> None:
    with pytest.raises(ValueError, match="twice"):
        await log.append([commit(place, b"1"), commit(place, b"2")])
    assert await log.history(subjects.run(ORG, place)) == []


async def a_history_has_every_byte_and_header(log: Log, place: str) -> None:
    hostile = b'{"text":"\\u0000 \xc3\xa9 \xf0\x9f\x98\x80 -0.0 1e400"}\x00\xff'
    headers = {"ce-source": "/orgs/o/runs/1%20%22", "traceparent": "00-ab-cd-01"}
    [first] = await log.append([Proposal(subjects.run(ORG, place), hostile, 0, headers)])
    assert first is not None
    [second] = await log.append([commit(place, b"", first)])
    [one, two] = await log.history(subjects.run(ORG, place))
    assert (one.subject, one.sequence, one.body, dict(one.headers)) == (
        subjects.run(ORG, place),
        first,
        hostile,
        headers,
    )
    assert (two.sequence, two.body, dict(two.headers)) == (second, b"", {})
    assert await log.history(subjects.run(ORG, place), after=first) == [two]
    assert await log.history(subjects.run(ORG, place), after=two.sequence) == []


async def the_last_message_of_an_empty_subject_is_none(log: Log, place: str) -> None:
    [first] = await log.append([commit(place, b"1")])
    assert first is not None
    [second] = await log.append([commit(place, b"2", first)])
    found = await log.last([subjects.run(ORG, place), subjects.run(ORG, f"{place}-nobody")])
    assert {subject: stored.sequence for subject, stored in found.items()} == {
        subjects.run(ORG, place): second
    }
    assert await log.last([]) == {}


async def the_oldest_message_is_told_of_each_subject_that_has_one(log: Log, place: str) -> None:
    [first] = await log.append([commit(place, b"1", name="a")])
    assert first is not None
    await log.append([commit(place, b"2", first)])
    [other] = await log.append([commit(f"{place}x", b"3")])
    names = [subjects.run(ORG, f"{place}{more}") for more in ("", "x", "y")]
    beginnings: Any = log  # A part of the log that few ask for.
    found = await beginnings.first(names)
    assert {name: (found[name].sequence, found[name].body) for name in found} == {
        names[0]: (first, b"1"),
        names[1]: (other, b"3"),
    }
    assert found[names[0]].headers["name"] == "a"
    assert await beginnings.first([]) == {}


async def of_two_writers_exactly_one_wins_each_place(log: Log, other: Log, place: str) -> None:
    expected = 0
    for number in range(20):
        ours, theirs = commit(place, b"a%d" % number, expected), commit(place, b"b%d" % number, expected)
        async with asyncio.TaskGroup() as tasks:
            first, second = tasks.create_task(log.append([ours])), tasks.create_task(other.append([theirs]))
        [winner] = [sequence for sequence in (*first.result(), *second.result()) if sequence is not None]
        expected = winner
    assert len(await log.history(subjects.run(ORG, place))) == 20


LOG_LAWS = (
    the_first_commit_needs_an_empty_subject,
    an_expectation_that_is_too_new_is_refused,
    an_exact_repeat_gives_its_own_sequence,
    no_subject_stands_twice_in_one_append,
    a_history_has_every_byte_and_header,
    the_last_message_of_an_empty_subject_is_none,
    the_oldest_message_is_told_of_each_subject_that_has_one,
)


# --- Reader -----------------------------------------------------------------------------------


async def a_reader_gives_everything_in_order_and_goes_on(log: Log, reader: Reader, place: str) -> None:
    start = await reader.end()
    places = [f"{place}-{number}" for number in range(50)]
    await log.append([commit(each, each.encode()) for each in places])
    end = await reader.end()
    assert end >= start + 50
    seen: list[Stored] = []
    caught_up = False
    async with aclosing(reader.read(start, most=7)) as batches:  # type: ignore[type-var]  # It is a generator.
        async with asyncio.timeout(LONG):
            async for batch in batches:
                assert len(batch) <= 7
                seen += batch
                if not batch and not caught_up:
                    caught_up = True
                    assert seen[-1].sequence >= end
                    [later] = await log.append([commit(f"{place}-later", b"later")])
                    assert later is not None
                elif caught_up and seen[-1].body == b"later":
                    break
    sequences = [message.sequence for message in seen]
    assert sequences == sorted(set(sequences))
    assert {each.encode() for each in places} <= {message.body for message in seen}


async def a_reader_begins_behind_its_place(log: Log, reader: Reader, place: str) -> None:
    [first, second] = await log.append([commit(f"{place}-1"), commit(f"{place}-2")])
    assert first is not None
    assert second is not None
    lower = min(first, second)
    async with aclosing(reader.read(lower)) as batches:  # type: ignore[type-var]  # It is a generator.
        async for batch in batches:
            if batch:
                assert batch[0].sequence == max(first, second)
                break


READER_LAWS = (a_reader_gives_everything_in_order_and_goes_on, a_reader_begins_behind_its_place)


# --- Signals ----------------------------------------------------------------------------------


async def a_question_is_answered_by_whoever_listens(asker: Signals, listener: Signals, place: str) -> None:
    def heard(subject: str, body: bytes, answer: Callable[[bytes], None]) -> None:
        answer(subject.encode() + b"?" + body)

    async with listener.listen(f"{place}.*", heard):
        assert await asker.request(f"{place}.one", b"\x00q", LONG) == f"{place}.one?".encode() + b"\x00q"


async def nobody_listens_and_nobody_answers_are_told_apart(
    asker: Signals, listener: Signals, place: str
) -> None:
    with pytest.raises(NobodyThere):
        await asker.request(f"{place}.one", b"q", LONG)
    async with listener.listen(f"{place}.*", lambda _subject, _body, _answer: None):
        with pytest.raises(Ambiguous):
            await asker.request(f"{place}.one", b"q", 0.2)
    await nobody_hears(asker, f"{place}.one")


async def nobody_hears(asker: Signals, subject: str) -> None:
    """Who stopped listening may still be asked for a moment, and is silent."""
    async with asyncio.timeout(LONG):
        while True:
            try:
                await asker.request(subject, b"q", 0.2)
            except NobodyThere:
                return
            except Ambiguous:
                continue


async def one_of_a_group_hears(asker: Signals, listener: Signals, place: str) -> None:
    answers: list[bytes] = []

    def hearing(name: bytes) -> Callable[[str, bytes, Callable[[bytes], None]], None]:
        def heard(_subject: str, body: bytes, answer: Callable[[bytes], None]) -> None:
            answers.append(name + body)
            answer(name)

        return heard

    async with listener.listen(place, hearing(b"1"), "group"), asker.listen(place, hearing(b"2"), "group"):
        for number in range(10):
            assert await asker.request(place, b"%d" % number, LONG) in {b"1", b"2"}
    assert sorted(answer[1:] for answer in answers) == sorted(b"%d" % number for number in range(10))


async def what_is_published_is_heard_by_all(asker: Signals, listener: Signals, place: str) -> None:
    heard: list[bytes] = []

    def hear(_subject: str, body: bytes, _answer: Callable[[bytes], None]) -> None:
        heard.append(body)

    async with listener.listen(f"{place}.>", hear), asker.listen(f"{place}.a.*", hear):
        asker.publish(f"{place}.a.b", b"said", {"traceparent": "00-1"})
        await until(lambda: len(heard) >= 2)
        await asyncio.sleep(0.05)
    assert heard == [b"said", b"said"]


SIGNAL_LAWS = (
    a_question_is_answered_by_whoever_listens,
    nobody_listens_and_nobody_answers_are_told_apart,
    one_of_a_group_hears,
    what_is_published_is_heard_by_all,
)


# --- Inbox and ownership ----------------------------------------------------------------------


class Owner:
    """Collects what arrives, answering it or not."""

    def __init__(self, ownership: Ownership, *, answering: bool = True) -> None:
        self.ownership = ownership
        self.answering = answering
        self.owned: list[int] = []
        self.arrived: list[Arrival] = []
        self.ended = False

    async def run(self) -> None:
        async for bunch in self.ownership.arrivals():
            if isinstance(bunch, int):
                self.owned.append(bunch)
                continue
            for arrival in bunch:
                self.arrived.append(arrival)
                if self.answering:
                    arrival.answer(b"done:" + arrival.body)
        self.ended = True

    def bodies(self, partition: int) -> list[bytes]:
        return [arrival.body for arrival in self.arrived if arrival.partition == partition]


@asynccontextmanager
async def owning(ownership: Ownership, *, answering: bool = True) -> AsyncIterator[Owner]:
    """An owner of every partition."""
    owner = Owner(ownership, answering=answering)
    async with asyncio.TaskGroup() as tasks:
        running = tasks.create_task(owner.run())
        await until(lambda: set(owner.owned) == set(range(8)))
        yield owner
        running.cancel()


async def what_is_put_arrives_once_answered(inbox: Inbox, ownership: Ownership, _now: datetime) -> None:
    async with owning(ownership) as owner:
        await inbox.put(3, b'["put"]')
        await inbox.look(5, ORG, "run-5", b'"look"')
        await until(lambda: bool(owner.bodies(3)) and bool(owner.bodies(5)))
        assert not any(arrival.direct for arrival in owner.arrived)
        assert {arrival.deliveries for arrival in owner.arrived} == {1}
        owner.arrived.clear()
        owner.owned.clear()
        await ownership.forget()
        await until(lambda: set(owner.owned) == set(range(8)))
        await asyncio.sleep(0.3)
        assert owner.arrived == []


async def what_is_not_answered_comes_again_to_who_takes_over(
    inbox: Inbox, ownership: Ownership, _now: datetime
) -> None:
    async with owning(ownership, answering=False) as owner:
        await inbox.put(2, b'["first"]')
        await inbox.put(2, b'["second"]')
        await until(lambda: len(owner.bodies(2)) == 2)
        first, second = owner.arrived
        second.answer(b"")  # A newer one acknowledged acknowledges no older one.
        await asyncio.sleep(0.1)
        owner.arrived.clear()
        owner.owned.clear()
        owner.answering = True
        await ownership.forget()
        await until(lambda: first.body in owner.bodies(2))
        assert 2 in owner.owned


async def everything_put_before_is_there_when_caught_up(
    inbox: Inbox, ownership: Ownership, _now: datetime
) -> None:
    async with owning(ownership) as owner:
        for number in range(30):
            await inbox.put(6, b"[%d]" % number)
        await ownership.caught_up(6)
        await until(lambda: len(owner.bodies(6)) >= 30)
        assert set(owner.bodies(6)) == {b"[%d]" % number for number in range(30)}


async def a_wake_up_comes_at_its_time_and_the_later_one_replaces(
    inbox: Inbox, ownership: Ownership, now: datetime
) -> None:
    def wake(wait: str) -> Wake:
        return Wake(org=ORG, run="run-wake", wait=wait)

    number = subjects.partition("run-wake")
    async with owning(ownership) as owner:
        await inbox.wake_at([(wake("late"), now + timedelta(seconds=600)), (wake("never"), now)])
        await until(lambda: encode(wake("never")) in owner.bodies(number))  # Past: at once.
        assert encode(wake("late")) not in owner.bodies(number)
        await inbox.wake_at([(wake("late"), now + timedelta(seconds=1))])
        await until(lambda: encode(wake("late")) in owner.bodies(number))


INBOX_LAWS = (
    what_is_put_arrives_once_answered,
    what_is_not_answered_comes_again_to_who_takes_over,
    everything_put_before_is_there_when_caught_up,
    a_wake_up_comes_at_its_time_and_the_later_one_replaces,
)


async def a_call_reaches_the_owner(signals: Signals, ownership: Ownership) -> None:
    async with owning(ownership) as owner:
        for number in range(8):
            assert await signals.request(subjects.call(number), b"[]call", LONG) == b"done:[]call"
        assert [(arrival.direct, arrival.deliveries) for arrival in owner.arrived] == [(True, 1)] * 8
        await ownership.release()
        await until(lambda: owner.ended)
        await nobody_hears(signals, subjects.call(1))


# --- Tasks ------------------------------------------------------------------------------------


async def taken(source: TaskSource, count: int, room: int = 100) -> list[TaskDelivery]:
    """The next deliveries."""
    found: list[TaskDelivery] = []
    async with aclosing(source.take(lambda: room - len(found))) as bunches:  # type: ignore[type-var]  # It is one.
        async with asyncio.timeout(LONG):
            async for bunch in bunches:
                found += bunch
                if len(found) >= count:
                    break
    return found


def task(place: str, number: int) -> str:
    return subjects.task("default", ORG, place, f"step{number}", 1)


async def a_task_emitted_twice_is_there_once(tasks: Tasks, source: TaskSource, place: str) -> None:
    wanted = [task(place, 1), task(place, 2)]
    assert await tasks.waiting(wanted) == set()
    for _ in range(3):
        tasks.emit("default", wanted[0], b"one")
    await there(tasks, wanted[:1])
    [delivery] = await taken(source, 1)
    assert delivery.body == b"one"
    assert await tasks.waiting(wanted) == {wanted[0]}  # Leased, not gone.
    delivery.done()
    await gone(tasks, wanted)


async def a_task_comes_again_until_it_is_done(tasks: Tasks, source: TaskSource, place: str) -> None:
    subject = task(place, 1)
    tasks.emit("default", subject, b"again")
    [first] = await taken(source, 1)
    first.give_back()
    [second] = await taken(source, 1)
    assert second.body == b"again"  # And silence ends the lease too:
    [third] = await taken(source, 1)
    assert third.body == b"again"
    third.done()
    await gone(tasks, [subject])


async def never_more_tasks_than_there_is_room(tasks: Tasks, source: TaskSource, place: str) -> None:
    wanted = [task(place, number) for number in range(12)]
    for subject in wanted:
        tasks.emit("default", subject, b"x")
    await there(tasks, wanted)
    held: list[TaskDelivery] = []
    done = 0
    async with aclosing(source.take(lambda: 5 - len(held))) as bunches:  # type: ignore[type-var]  # It is one.
        async with asyncio.timeout(LONG):
            async for bunch in bunches:
                held += bunch
                assert len(held) <= 5
                while held:
                    held.pop().done()
                    done += 1
                if done == 12:
                    break
    await gone(tasks, wanted)


async def what_lies_there_is_counted(tasks: Tasks, source: TaskSource, place: str) -> None:
    wanted = [task(place, number) for number in range(6)]
    for subject in wanted:
        tasks.emit("default", subject, b"x")
    await there(tasks, wanted)
    assert await tasks.lying("default") == Lying(unread=6, leased=0)
    assert await tasks.lying("nobodys") == Lying(unread=0, leased=0)
    assert await tasks.lying("ext-theirs", ORG) == Lying(unread=0, leased=0)
    held = await taken(source, 2, room=2)
    assert await tasks.lying("default") == Lying(unread=4, leased=2)
    for delivery in (*held, *await taken(source, 4)):
        delivery.done()
    await gone(tasks, wanted)
    async with asyncio.timeout(LONG):
        while await tasks.lying("default") != Lying(unread=0, leased=0):
            await asyncio.sleep(0.02)


async def there(tasks: Tasks, wanted: Sequence[str]) -> None:
    async with asyncio.timeout(LONG):
        while await tasks.waiting(wanted) != set(wanted):
            await asyncio.sleep(0.02)


async def gone(tasks: Tasks, wanted: Sequence[str]) -> None:
    async with asyncio.timeout(LONG):
        while await tasks.waiting(wanted):
            await asyncio.sleep(0.02)


TASK_LAWS = (
    a_task_emitted_twice_is_there_once,
    a_task_comes_again_until_it_is_done,
    never_more_tasks_than_there_is_room,
    what_lies_there_is_counted,
)


# --- Blobs ------------------------------------------------------------------------------------


async def bytes_come_back_as_they_went(blobs: Blobs) -> None:
    for data in (b"", b"\x00\xff" * 40_000, bytes(range(256)) * 5_000):
        blob = await blobs.put(data, "application/octet-stream")
        assert blob.size == len(data)
        assert blob.content_type == "application/octet-stream"
        assert await blobs.get(blob) == data


async def the_same_bytes_have_the_same_name(blobs: Blobs) -> None:
    first, second = await blobs.put(b"same", "text/plain"), await blobs.put(b"same", "text/html")
    assert first.sha256 == second.sha256
    assert (first.content_type, second.content_type) == ("text/plain", "text/html")
    assert await blobs.get(first) == await blobs.get(second) == b"same"


async def what_was_never_put_is_not_there(blobs: Blobs) -> None:
    with pytest.raises(KeyError):
        await blobs.get(Blob(sha256="0" * 64, size=4))


BLOB_LAWS = (bytes_come_back_as_they_went, the_same_bytes_have_the_same_name, what_was_never_put_is_not_there)


# --- Letters ----------------------------------------------------------------------------------


async def every_letter_is_stored_behind_the_one_before(letters: Letters, place: str) -> None:
    subject = subjects.dead_letter(subjects.INBOX, ORG, place)
    first = await letters.store(subject, b"one", {"reason": "a"})
    second = await letters.store(subject, b"two")
    again = await letters.store(subject, b"two")
    assert first < second < again, "no letter takes the place of another"


LETTER_LAWS = (every_letter_is_stored_behind_the_one_before,)


# --- Purging ----------------------------------------------------------------------------------

Purge: TypeAlias = Callable[[str, int | None], Awaitable[int]]
"""Of one log: the subjects, and before which sequence."""


async def three(log: Log, place: str) -> list[int]:
    sequences: list[int] = []
    for body in (b"1", b"2", b"3"):
        [sequence] = await log.append([commit(place, body, sequences[-1] if sequences else 0)])
        assert sequence is not None
        sequences.append(sequence)
    return sequences


async def a_tombstone_keeps_refusing(log: Log, purge: Purge, place: str) -> None:
    *_, last = await three(log, place)
    other = await three(log, f"{place}-other")
    assert await purge(commit(place).subject, last) == 2
    assert await purge(commit(place).subject, last) == 0, "safe to repeat"
    assert [stored.body for stored in await log.history(commit(place).subject)] == [b"3"]
    assert [stored.sequence for stored in await log.history(commit(f"{place}-other").subject)] == other
    assert await log.append([commit(place, b"a new beginning", 0)]) == [None]
    [fourth] = await log.append([commit(place, b"4", last)])
    assert fourth is not None
    assert fourth > last


async def a_history_that_left_whole_can_begin_anew(log: Log, purge: Purge, place: str) -> None:
    *_, last = await three(log, place)
    assert await purge(commit(place).subject, last + 1) == 3
    assert await log.last([commit(place).subject]) == {}
    assert await log.history(commit(place).subject) == []
    assert await log.append([commit(place, b"4", last)]) == [None], "there is nothing to be behind of"
    [again] = await log.append([commit(place, b"again", 0)])
    assert again is not None
    assert again > last, "no sequence is used twice"


async def what_comes_meanwhile_stays(log: Log, purge: Purge, place: str) -> None:
    *_, last = await three(log, place)
    [fourth] = await log.append([commit(place, b"4", last)])
    assert await purge(commit(place).subject, last + 1) == 3
    assert [stored.sequence for stored in await log.history(commit(place).subject)] == [fourth]


async def everything_below_a_subject_goes(log: Log, purge: Purge, place: str) -> None:
    await three(log, place)
    await three(log, f"{place}-other")
    assert await purge(f"run.{ORG}.>", None) >= 6
    assert await log.last([commit(place).subject, commit(f"{place}-other").subject]) == {}


async def a_reader_goes_past_what_has_left(log: Log, reader: Reader, purge: Purge, place: str) -> None:
    *_, last = await three(log, place)
    after = await three(log, f"{place}-after")
    await purge(commit(place).subject, last)
    read: list[int] = []
    async for batch in reader.read(0):
        read += [stored.sequence for stored in batch]
        if read[-1:] == after[-1:]:
            break
    assert read == [last, *after]


PURGE_LAWS = (
    a_tombstone_keeps_refusing,
    a_history_that_left_whole_can_begin_anew,
    what_comes_meanwhile_stays,
    everything_below_a_subject_goes,
)
