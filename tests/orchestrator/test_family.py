"""What the orchestrator's shell says between runs: who is asked for, let go and told, and what is said again."""

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

from msgspec import structs

from chassis.ids import digest
from chassis.testing.examples import domain_commit
from contracts.codec import decode_commit, encode
from contracts.limits import CAUSES_DEEP
from contracts.messages import CancelRun, ChildOver, Look, RetryRun, StartRun
from contracts.plans import Plan
from contracts.runs import ChildEnded, RunStarted
from contracts.subjects import domain
from contracts.subjects import run as run_subject
from contracts.workflows import VersionPublished, WorkflowCreated, WorkflowDeleted, WorkflowEvent
from orchestrator.domain import Domain
from orchestrator.sources import Sources
from tests.orchestrator.rooms import Talking
from tests.orchestrator.stories import CANCEL, NOON, TO, broken, control, done, drawn, value

CHILD = drawn("work")


def calling(**config: Any) -> Plan:
    return drawn("call>after", control("call", "workflow.run", {"workflow": "child", **config}))


class Home(Talking):
    """An orchestrator whose runs start runs of `child`, in its versions."""

    def __init__(self, plan: Plan, *children: Plan) -> None:
        super().__init__(plan)
        self.domain = Domain(self.log)
        self.plans: list[str] = []
        for child in children:
            body = encode(child)
            self.plans.append(digest(body))
            self.blobs.kept[digest(body)] = body
        self._published = 0
        events: list[WorkflowEvent] = [WorkflowCreated(name="child")]
        events += [VersionPublished(version=n, plan=name) for n, name in enumerate(self.plans, 1)]
        if children:
            self.publish(*events)

    def publish(self, *events: WorkflowEvent) -> None:
        self._published += 1
        commit = domain_commit("workflow", "child", *events, org="org", version=self._published, time=NOON)
        self.log.put(domain("org", "workflow", "child"), encode(commit))

    def sources(self, **more: Any) -> Sources:
        return super().sources(directory=self.domain, **more)

    @property
    def child(self) -> str:
        """The newest run that is not the first one."""
        runs = [subject for subject in self.log.subjects() if subject.startswith("run.org.")]
        return runs[-1].rpartition(".")[2]

    async def work(self, **more: Any) -> None:
        await self.tell(structs.replace(done("work", output={"n": 7}), run=self.child, **more))


def told(*plans: Plan) -> Callable[[Callable[[Home], Coroutine[Any, Any, None]]], None]:
    return lambda story: Home(*plans).play(story)


def test_a_child_runs_and_its_parent_goes_on_with_what_it_gave() -> None:
    @told(calling(), CHILD)
    async def story(home: Home) -> None:
        await home.tell(home.start)
        child = home.state(home.child)
        assert (child.workflow, child.version, child.parent and child.parent.run) == ("child", 1, "run-1")
        assert (child.cause and child.cause.depth, child.org_vars) == (1, home.state().org_vars)
        await home.work()
        assert home.state().step("call").output == value({"n": 7})
        assert home.state().attempts.keys() == {"after"}


def test_a_child_that_ends_in_its_first_commit_tells_so() -> None:
    @told(calling(), drawn("light", control("light", "noop")))
    async def story(home: Home) -> None:
        await home.tell(home.start)
        assert home.state(home.child).status == "completed"
        assert home.state().step("call").status == "succeeded"
        assert home.said(ChildOver) == 1


def test_the_version_is_the_one_that_is_asked_for_or_the_last_that_was_published() -> None:
    for version, place in ((None, 1), (1, 0)):

        @told(calling(**({} if version is None else {"version": version})), CHILD, drawn("other"))
        async def story(home: Home, place: int = place) -> None:
            await home.tell(home.start)
            assert home.state(home.child).plan == home.plans[place]


def test_what_is_published_is_looked_at_when_the_step_is_reached() -> None:
    @told(drawn("first>call", control("call", "workflow.run", {"workflow": "child"})), CHILD, drawn("other"))
    async def story(home: Home) -> None:
        await home.tell(home.start)
        home.publish(VersionPublished(version=1, plan=home.plans[0]))  # Back to what was before.
        await home.tell(done("first"))
        assert home.state(home.child).version == 1


def test_a_workflow_that_is_not_there_or_not_published_fails_the_step() -> None:
    @told(calling())
    async def nowhere(home: Home) -> None:
        await home.tell(home.start)
        error = home.state().error
        assert error is not None
        assert (error.code, error.field, error.node) == ("child.no_workflow", "/workflow", "call")

    @told(calling(version=3), CHILD)
    async def another(home: Home) -> None:
        await home.tell(home.start)
        error = home.state().error
        assert error is not None
        assert (error.code, error.message) == (
            "child.not_published",
            "Version 3 of workflow child is not published.",
        )

    @told(calling(), CHILD)
    async def deleted(home: Home) -> None:
        home.publish(WorkflowDeleted())
        await home.tell(home.start)
        error = home.state().error
        assert error is not None
        assert error.code == "child.no_workflow"


def test_a_run_that_is_not_waited_for_is_there_before_the_parent_goes_on() -> None:
    @told(calling(mode="start"), CHILD)
    async def story(home: Home) -> None:
        await home.tell(home.start)
        assert home.state().step("call").output == value({"run": home.child})
        await home.tell(CANCEL)
        await home.work()
        assert home.state(home.child).status == "completed", "nobody cancels it with its parent"
        assert home.said(ChildOver) == 0


def test_an_end_that_got_lost_is_told_again_when_somebody_looks_at_the_parent() -> None:
    @told(calling(), CHILD)
    async def story(home: Home) -> None:
        home.dispatch.lose = (ChildOver,)
        await home.tell(home.start)
        await home.work()
        assert home.state().status == "waiting"
        home.dispatch.lose = ()
        await home.tell(Look(**TO))
        assert home.state().step("call").output == value({"n": 7})


def test_a_child_that_was_never_asked_for_is_asked_for_when_somebody_looks() -> None:
    @told(calling(mode="start"), CHILD)
    async def story(home: Home) -> None:
        home.dispatch.lose = (StartRun,)
        await home.tell(home.start)
        assert home.state().status == "waiting"
        home.dispatch.lose = ()
        await home.tell(Look(**TO))
        assert home.state().step("call").status == "succeeded"
        assert home.state(home.child).active


def test_cancelling_flows_down_and_the_parent_waits_for_it() -> None:
    @told(calling(), calling(workflow="child", version=2), CHILD)
    async def story(home: Home) -> None:
        await home.tell(structs.replace(home.start, plan=home.plans[0]))
        child = home.child
        await home.tell(CANCEL)
        assert home.state(child).cancel is not None
        assert home.state(child).cancel.by == "run:run-1"  # type: ignore[union-attr]  # As was asked just now.
        assert home.state().phase == "stopping"
        await asyncio.sleep(4)  # The child's own attempt has its grace.
        assert home.state(child).status == "cancelled"
        assert (home.state().status, home.state().unfinished) == ("cancelled", ())


def test_a_cancellation_that_got_lost_is_said_again_while_the_parent_stops() -> None:
    @told(calling(), CHILD)
    async def story(home: Home) -> None:
        await home.tell(home.start)
        home.dispatch.lose = (CancelRun,)
        await home.tell(CANCEL)
        assert home.state(home.child).cancel is None
        home.dispatch.lose = ()
        await home.tell(Look(**TO))
        assert home.state(home.child).cancel is not None


def test_a_child_that_ended_unheard_tells_so_when_it_is_let_go() -> None:
    @told(calling(), CHILD)
    async def story(home: Home) -> None:
        home.dispatch.lose = (ChildOver,)
        await home.tell(home.start)
        await home.work()
        home.dispatch.lose = ()
        await home.tell(CANCEL)
        assert (home.state().status, home.state().step("call").status) == ("cancelled", "succeeded")


def test_a_child_that_is_opened_again_changes_nothing_in_a_parent_that_went_on() -> None:
    @told(calling(), CHILD)
    async def story(home: Home) -> None:
        await home.tell(home.start)
        child = home.child
        await home.tell(structs.replace(broken("work"), run=child))
        assert home.state().status == "failed"
        before = len(home.events)
        assert await home.tell(RetryRun(org="org", run=child, actor="key:1")) == "accepted"
        await home.tell(structs.replace(done("work", 2), run=child))
        assert home.state(child).status == "completed"
        assert (home.state().status, len(home.events)) == ("failed", before)


def test_the_retry_of_a_failed_parent_is_another_child() -> None:
    @told(calling(), CHILD)
    async def story(home: Home) -> None:
        await home.tell(home.start)
        first = home.child
        await home.tell(structs.replace(broken("work"), run=first))
        await home.tell(RetryRun(**TO, actor="key:1"))
        assert home.child != first
        await home.work()
        assert home.state().step("call").status == "succeeded"


def test_a_child_that_is_let_go_in_the_commit_that_asks_for_it_never_begins() -> None:
    plan = drawn(
        "", control("call", "workflow.run", {"workflow": "child"}), control("no", "stop", {"message": "No."})
    )

    @told(plan, CHILD)
    async def story(home: Home) -> None:
        await home.tell(home.start)
        assert home.said(StartRun) == 0
        assert home.state().status == "failed"
        assert home.state().unfinished == ()
        events = [
            event
            for stored in home.log.subjects()[run_subject("org", "run-1")]
            for event in decode_commit(stored.body).events
        ]
        assert [event.outcome for event in events if isinstance(event, ChildEnded)] == ["cancelled"]
        assert sum(isinstance(event, RunStarted) for event in events) == 1


def test_a_workflow_that_calls_itself_for_ever_is_stopped_and_named() -> None:
    @told(calling(), calling(), CHILD)
    async def story(home: Home) -> None:
        home.publish(VersionPublished(version=1, plan=home.plans[0]))
        await home.tell(home.start)
        await asyncio.sleep(20)
        error = home.state().error
        assert error is not None
        assert error.code == "child.failed"
        assert "cause.too_deep" in error.message
        assert "child → child" in error.message
        runs = [subject for subject in home.log.subjects() if subject.startswith("run.org.")]
        assert len(runs) == CAUSES_DEEP + 1


def test_a_failure_starts_the_error_workflow_and_is_told_again_when_somebody_looks() -> None:
    @told(drawn("work", on_failure="child"), CHILD)
    async def story(home: Home) -> None:
        home.dispatch.lose = (StartRun,)
        await home.tell(home.start)
        await home.tell(broken("work"))
        assert home.state().status == "failed"
        assert home.child == "run-1"
        home.dispatch.lose = ()
        await home.tell(Look(**TO))
        handler = home.state(home.child)
        assert (handler.workflow, handler.active, handler.parent) == ("child", True, None)
        assert handler.cause is not None
        assert (handler.cause.id, handler.id) == ("run-1", home.state().handler.child)  # type: ignore[union-attr]  # It was asked for.
        await home.tell(Look(**TO))
        assert len([subject for subject in home.log.subjects() if subject.startswith("run.org.")]) == 2


def test_a_failure_that_nobody_heard_of_is_told_also_when_the_run_was_opened_again_meanwhile() -> None:
    @told(drawn("work", on_failure="child"), CHILD)
    async def story(home: Home) -> None:
        home.dispatch.lose = (StartRun,)
        await home.tell(home.start)
        await home.tell(broken("work"))
        await home.tell(RetryRun(**TO, actor="key:1"))
        home.dispatch.lose = ()
        await home.tell(broken("work", 2))
        handlers = {asked.child for asked in home.state().handlers}
        runs = {
            subject.rpartition(".")[2] for subject in home.log.subjects() if subject.startswith("run.org.")
        }
        assert len(handlers) == 2
        assert handlers <= runs
