"""Evaluations apart: answered, or stopped at their bound; the next one works."""

import asyncio
import os
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from msgspec import Raw

from chassis.expressions import (
    Answer,
    Apart,
    Context,
    Done,
    Job,
    Language,
    Undone,
    Value,
    compile_template,
)
from chassis.expressions import worker as worker_module
from chassis.expressions.apart import answered
from chassis.expressions.worker import WorkerProcess

EASY = Job(source="6 * 7", values=Raw(b"{}"))
ANSWER = Done(value=Raw(b"42"))
GREEDY = Job(
    source="[trigger]" + ".map(v, v + v)" * 10 + "[0].size()",
    values=Raw(b'{"@0": "%b"}' % (b"a" * 1_000_000)),
)
ENDLESS = Job(
    source="trigger.distinct().size()",
    values=Raw(b'{"@0": [' + b",".join(b'{"n": %d}' % n for n in range(40_000)) + b"]}"),
)


@pytest.fixture
async def worker() -> AsyncIterator[WorkerProcess]:
    async with WorkerProcess(seconds=30) as process:
        yield process


def pid(worker: WorkerProcess) -> int:
    assert worker._process is not None
    return worker._process.pid


def lives(number: int) -> bool:
    return Path(f"/proc/{number}").exists()


async def test_a_job_is_answered(worker: WorkerProcess) -> None:
    assert await worker.answer(EASY) == ANSWER


async def test_one_process_answers_one_job_after_the_other(worker: WorkerProcess) -> None:
    async with asyncio.TaskGroup() as asked:
        tasks = [
            asked.create_task(worker.answer(Job(source=f"{n} + 1", values=Raw(b"{}")))) for n in range(20)
        ]
    assert [task.result() for task in tasks] == [Done(value=Raw(b"%d" % (n + 1))) for n in range(20)]
    first = pid(worker)
    await worker.answer(EASY)
    assert pid(worker) == first


async def test_no_process_runs_before_the_first_job() -> None:
    async with WorkerProcess() as worker:
        assert worker._process is None


async def test_what_fails_is_told_with_its_place(worker: WorkerProcess) -> None:
    assert await worker.answer(Job(source="1 + 1 / 0", values=Raw(b"{}"))) == Undone(
        message="division by zero", offset=6
    )
    assert await worker.answer(Job(source="trigger.a", values=Raw(b"{}"))) == Undone(
        message="`trigger.a` is not there"
    )
    assert isinstance(await worker.answer(Job(source="nope", values=Raw(b"{}"))), Undone)


async def test_too_much_memory_ends_the_evaluation_and_the_next_one_works(worker: WorkerProcess) -> None:
    assert await worker.answer(EASY) == ANSWER
    first = pid(worker)
    answer = await worker.answer(GREEDY)
    assert isinstance(answer, Undone)
    assert "more memory than it may" in answer.message
    assert await worker.answer(EASY) == ANSWER
    assert pid(worker) != first
    assert not lives(first)


async def test_too_much_time_ends_the_evaluation_and_the_next_one_works() -> None:
    async with WorkerProcess(seconds=0.3) as worker:
        while await worker.answer(EASY) != ANSWER:
            pass
        first = pid(worker)
        assert await worker.answer(ENDLESS) == Undone(message="the expression takes longer than 0.3 s")
        assert not lives(first)
        while await worker.answer(EASY) != ANSWER:
            pass


def starting_late(seconds: float) -> tuple[str, ...]:
    """The command on a machine that is this busy."""
    late = f"import runpy, time; time.sleep({seconds}); runpy.run_module('chassis.expressions.apart', run_name='__main__')"
    return (sys.executable, "-c", late)


async def test_the_start_of_the_process_is_not_the_time_of_the_expression(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(worker_module, "_COMMAND", starting_late(2.5))
    async with WorkerProcess(seconds=2) as worker:
        assert await worker.answer(EASY) == ANSWER


async def test_a_process_that_does_not_start_is_no_fault_of_the_expression(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(worker_module, "CEL_WAIT_SECONDS", 0.2)
    monkeypatch.setattr(worker_module, "_COMMAND", starting_late(3600))
    async with WorkerProcess() as worker:
        slow = await worker.answer(EASY)
        assert worker._process is None
        monkeypatch.setattr(worker_module, "_COMMAND", (sys.executable, "-c", "pass"))
        dead = await worker.answer(EASY)
    for answer in (slow, dead):
        assert isinstance(answer, Undone)
        assert answer.passing
        assert "did not start" in answer.message


async def test_a_process_that_dies_is_replaced(worker: WorkerProcess) -> None:
    assert await worker.answer(EASY) == ANSWER
    os.kill(pid(worker), 9)
    assert ANSWER in [await worker.answer(EASY), await worker.answer(EASY)]


async def test_the_loop_goes_on_while_a_job_is_answered() -> None:
    turns = 0
    async with WorkerProcess(seconds=0.5) as worker:
        task = asyncio.ensure_future(worker.answer(ENDLESS))
        while not task.done():
            await asyncio.sleep(0.01)
            turns += 1
    assert turns > 5


async def test_a_cancelled_job_leaves_nothing_behind(worker: WorkerProcess) -> None:
    await worker.answer(EASY)
    first = pid(worker)
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.1):
            await worker.answer(ENDLESS)
    assert not lives(first)
    assert await worker.answer(EASY) == ANSWER


async def test_the_process_ends_with_its_block() -> None:
    async with WorkerProcess() as worker:
        await worker.answer(EASY)
        number = pid(worker)
    assert not lives(number)


async def test_the_process_ends_when_its_input_does(worker: WorkerProcess) -> None:
    """As it does when whoever started it was killed."""
    await worker.answer(EASY)
    process = worker._process
    assert process is not None
    assert process.stdin is not None
    process.stdin.close()
    assert await process.wait() == 0


async def test_apart_and_on_the_spot_give_the_same(worker: WorkerProcess) -> None:
    language = Language()
    compiled = compile_template("{{ trigger.l.distinct()[1499].n }}", language, node="n", field="/t")
    context = Context.from_roots(trigger=Value({"l": [{"n": n, "t": "a\0b"} for n in range(1_500)]}))
    answers: dict[str, Answer] = {}
    with pytest.raises(Apart) as caught:
        compiled.evaluate(context)
    for job in caught.value.jobs:
        assert answered(job, language) == Done(value=Raw(b"1499"))
        async with WorkerProcess(seconds=20) as patient:
            answers[job.name] = await patient.answer(job)
    assert compiled.evaluate(context, answers) == 1499
    nul = Job(source="trigger + '!'", values=Raw(rb'{"@0": "a\u0000b"}'))
    assert await worker.answer(nul) == answered(nul, language) == Done(value=Raw(rb'"a\u0000b!"'))


async def test_nobody_queues_for_ever_behind_heavy_jobs() -> None:
    async with WorkerProcess(seconds=4.0, wait_seconds=0.3) as worker, asyncio.TaskGroup() as asked:
        heavy = asked.create_task(worker.answer(ENDLESS))
        await asyncio.sleep(0)
        waiting = [asked.create_task(worker.answer(EASY)) for _ in range(3)]
        for each in waiting:
            answer = await each
            assert isinstance(answer, Undone)
            assert answer.passing
            assert "others before it took longer than 0.3 s" in answer.message
        assert isinstance(await heavy, Undone)
        assert await worker.answer(EASY) == ANSWER, "the turn was not lost"
