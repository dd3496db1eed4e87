"""What is kept of what decisions needed, and for how long."""

from typing import Any

from msgspec import Raw

from chassis.expressions import Answer, Done, Job, Undone
from chassis.testing.stores import MemoryBlobs, MemoryLog
from chassis.testing.world import World
from orchestrator.inputs import NotReady
from orchestrator.sources import Sources

JOB = Job(source="heavy", values=Raw(b"{}"))


class Worker:
    """Too busy at first."""

    def __init__(self) -> None:
        self.asked = 0

    async def answer(self, job: Job) -> Answer:
        self.asked += 1
        return Undone(message="too busy", passing=True) if self.asked == 1 else Done(value=Raw(b"1"))


def told(story: Any) -> None:
    world = World(1)
    worker = Worker()
    sources = Sources(
        log=MemoryLog(world), blobs=MemoryBlobs(world), archive=story, compile_plan=story, worker=worker
    )
    done = world.loop.spawn("story", story(sources))
    world.loop.run_until(done.done, steps=10_000, seconds=60)
    done.result()
    world.loop.close()


def test_that_a_worker_was_busy_is_no_answer_for_the_next_run() -> None:
    @told
    async def story(sources: Sources) -> None:
        await sources.fetch(NotReady(jobs=[JOB]), "run-1")
        assert isinstance(sources.answers[JOB.name], Undone), (
            "run-1 is decided by it, and its replay sees the same"
        )
        sources.release("run-1")
        assert JOB.name not in sources.answers
        await sources.fetch(NotReady(jobs=[JOB]), "run-2")
        sources.release("run-2")
        assert sources.answers[JOB.name] == Done(value=Raw(b"1"))
