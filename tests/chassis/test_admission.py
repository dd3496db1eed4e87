"""How much is taken in at once, and what is refused."""

import asyncio
from datetime import UTC, datetime, timedelta

import msgspec
import pytest

from chassis.admission import Admission
from chassis.backlog import STILL_SECONDS, Backlog
from chassis.edge.problems import Problem
from chassis.ports import Away
from contracts.limits import BODIES_BYTES
from contracts.messages import Answer, StartRun
from contracts.payloads import NULL
from contracts.runs import Cause
from contracts.subjects import worker_durable

START = StartRun(
    org="org_default",
    run="run1",
    plan="ab" * 32,
    workflow="flow1",
    version=1,
    receipt="receipt1",
    cause=Cause(kind="webhook", id="receipt1"),
    input=NULL,
)


class Hands:
    """A clock whose hands a test moves."""

    def __init__(self) -> None:
        self.at = 100.0

    def now(self) -> datetime:
        return datetime(2026, 11, 21, tzinfo=UTC) + timedelta(seconds=self.at)

    def seconds(self) -> float:
        return self.at


class Owner:
    """Answers when it is told to."""

    def __init__(self) -> None:
        self.asked: list[asyncio.Future[Answer]] = []

    async def send(self, message: StartRun, /) -> Answer:
        self.asked.append(asyncio.get_running_loop().create_future())
        return await self.asked[-1]

    def answer(self) -> None:
        for asked in self.asked:
            asked.set_result(Answer(run="run1", result="accepted"))
        self.asked.clear()


class Scene:
    """An admission and all that it looks at."""

    def __init__(self, most: int = 64, most_backlog: int = 10) -> None:
        self.hands, self.owner, self.backlog = Hands(), Owner(), 0
        self.told: list[tuple[int, str, str]] = []
        self.admission = Admission(
            self.owner, self.hands, most=most, backlog=lambda: self.backlog, most_backlog=most_backlog
        )

    def no(self) -> Problem:
        with pytest.raises(Problem) as refused:
            self.admission.check()
        return refused.value

    async def crowd(self, offered: int, seconds: float) -> int:
        """So many come at once and are answered after that time; how many were let in."""
        before = sum(self.admission.refused.values())
        async with asyncio.TaskGroup() as group:
            for _ in range(offered):
                group.create_task(self._one())
            await asyncio.sleep(0)
            self.hands.at += seconds
            self.owner.answer()
        self.hands.at += 0.1
        return offered - (sum(self.admission.refused.values()) - before)

    async def _one(self) -> None:
        try:
            self.admission.check()
            await self.admission.send(START)
        except Problem as problem:
            self.told.append((problem.status, problem.code, problem.headers["retry-after"]))


async def test_more_than_may_be_under_way_at_once_is_told_to_come_again() -> None:
    scene = Scene(most=4)
    assert await scene.crowd(10, 0.001) == 4
    assert scene.told == [(503, "overloaded", "1")] * 6
    assert scene.admission.refused["starts"] == 6
    assert scene.admission.under_way == 0


async def test_the_whole_answer_is_the_same_refusal() -> None:
    scene = Scene(most=4, most_backlog=10)
    assert scene.admission.refusal() is None
    scene.backlog = 10
    answer = scene.admission.refusal() or b""
    head, _, body = answer.partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 503 Service Unavailable\r\n")
    assert b"retry-after: 5" in head
    assert msgspec.json.decode(body)["code"] == "overloaded"
    assert scene.admission.refused["backlog"] == 1


async def test_those_who_come_in_one_burst_are_counted_at_the_door() -> None:
    scene = Scene(most=4)
    answers = [scene.admission.refusal() for _ in range(10)]
    assert answers[:4] == [None] * 4
    assert None not in answers[4:]
    await asyncio.sleep(0)
    assert scene.admission.refusal() is None, "none of them has become a start: their places are free"


async def test_a_start_that_slipped_past_the_first_look_is_refused_before_it_is_sent() -> None:
    scene = Scene(most=1)
    scene.admission.check()
    scene.admission.check()
    async with asyncio.TaskGroup() as group:
        first = group.create_task(scene.admission.send(START))
        await asyncio.sleep(0)
        with pytest.raises(Problem):
            await scene.admission.send(START)
        scene.owner.answer()
    assert first.result().result == "accepted"


async def test_while_nothing_is_refused_slow_answers_take_no_room_away() -> None:
    scene = Scene(most=64)
    for _ in range(20):
        assert await scene.crowd(64, 0.5) == 64


async def test_when_something_must_be_refused_so_few_are_let_in_that_they_are_answered_soon() -> None:
    scene = Scene(most=64)
    let_in = [await scene.crowd(100, 0.5) for _ in range(20)]
    assert let_in[0] == 64
    assert let_in[-1] == 2
    assert let_in == sorted(let_in, reverse=True)


async def test_room_comes_back_while_answers_are_as_fast_as_in_quiet_times() -> None:
    scene = Scene(most=64)
    for _ in range(20):
        await scene.crowd(100, 0.5)
    let_in = [await scene.crowd(100, 0.001) for _ in range(40)]
    assert let_in[-1] == 64
    assert let_in == sorted(let_in)


async def test_when_the_load_is_over_everything_is_open_again() -> None:
    scene = Scene(most=64)
    for _ in range(20):
        await scene.crowd(100, 0.5)
    scene.hands.at += 2
    assert await scene.crowd(64, 0.001) == 64


async def test_what_is_slow_here_always_is_not_taken_for_a_crowd() -> None:
    scene = Scene(most=64)
    for _ in range(200):
        await scene.crowd(1, 0.05)
    assert scene.admission.quiet == pytest.approx(0.05, rel=0.1)
    let_in = [await scene.crowd(100, 0.1) for _ in range(20)]
    assert set(let_in) == {64}


async def test_an_owner_that_fails_leaves_its_place() -> None:
    scene = Scene(most=1)

    class Broken:
        async def send(self, message: StartRun, /) -> Answer:
            raise Away

    admission = Admission(Broken(), scene.hands, most=1, backlog=lambda: 0, most_backlog=1)
    for _ in range(3):
        with pytest.raises(Away):
            await admission.send(START)
    assert admission.under_way == 0


def test_bodies_are_held_within_their_bound_and_given_back() -> None:
    scene = Scene()
    with scene.admission.holding(BODIES_BYTES - 10):
        with pytest.raises(Problem) as refused, scene.admission.holding(11):
            pass
        assert refused.value.status == 503
        with scene.admission.holding(10):
            assert scene.admission.bytes == BODIES_BYTES
    assert scene.admission.bytes == 0


def test_starts_are_refused_while_too_many_attempts_wait() -> None:
    scene = Scene(most_backlog=10)
    scene.backlog = 9
    scene.admission.check()
    scene.backlog = 10
    assert int(scene.no().headers["retry-after"]) > 1
    scene.backlog = 0
    scene.admission.check()


class Tasks:
    """JetStream's answer about the pools: by name how many wait, and how many were taken so far."""

    def __init__(self, **pools: tuple[int, int]) -> None:
        self.pools = pools
        self.away = False

    async def api(self, subject: str) -> dict[str, object]:
        assert subject == "CONSUMER.LIST.TASKS"
        if self.away:
            raise Away
        told = [
            {"name": name, "num_pending": waiting, "delivered": {"consumer_seq": taken}, "other": 1}
            for name, (waiting, taken) in self.pools.items()
        ]
        return {"type": "io.nats.jetstream.api.v1.consumer_list_response", "consumers": told}


async def looked(backlog: Backlog, *times: float) -> int:
    for at in times:
        await backlog.look(at)
    return backlog.waiting


async def test_the_backlog_is_what_waits_in_all_pools() -> None:
    assert await looked(Backlog(Tasks(default=(3, 1), agents=(4, 1))), 0.0) == 7


async def test_a_pool_from_which_nobody_takes_counts_no_more() -> None:
    tasks = Tasks(default=(3, 1), abandoned=(400, 1))
    backlog = Backlog(tasks)
    assert await looked(backlog, 0.0) == 403
    tasks.pools["default"] = (5, 2)
    assert await looked(backlog, STILL_SECONDS) == 5
    tasks.pools["abandoned"] = (399, 2)
    assert await looked(backlog, STILL_SECONDS + 1) == 404


async def test_an_orgs_slow_workers_outside_keep_nobody_else_from_starting() -> None:
    tasks = Tasks(**{"exec-default": (3, 1), worker_durable("org_default", "ext-slow"): (100_000, 1)})
    assert await looked(Backlog(tasks), 0.0) == 3


async def test_while_nobody_tells_the_last_backlog_stands() -> None:
    tasks = Tasks(default=(3, 1))
    backlog = Backlog(tasks)
    await backlog.look(0.0)
    tasks.away = True
    assert await looked(backlog, 1.0) == 3
