"""Every task tells its executor what the run would bring about by our own addresses stands behind."""

from msgspec import structs

from contracts.messages import Task
from contracts.runs import Cause
from tests.orchestrator.rooms import Room
from tests.orchestrator.stories import drawn
from tests.orchestrator.test_traces import task_of


def tasks_of(cause: Cause) -> Task:
    room, found = Room(drawn("a>b")), list[Task]()

    async def story(room: Room) -> None:
        await room.say(structs.replace(room.start, cause=cause))
        found.append(task_of(room, "a"))

    room.play(story)
    return found[0]


def test_a_run_at_the_beginning_is_alone_in_its_chain() -> None:
    task = tasks_of(Cause(kind="webhook", id="receipt-1"))
    assert (task.depth, task.chain) == (1, ("flow",))


def test_a_run_that_stands_behind_others_tells_them_all() -> None:
    task = tasks_of(Cause(kind="webhook", id="receipt-1", depth=2, chain=("first", "second"), run="run-9"))
    assert (task.depth, task.chain) == (3, ("first", "second", "flow"))
