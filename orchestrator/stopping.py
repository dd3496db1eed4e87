"""How a run stops before its end: waits are dropped, what is under way may say how it ended, and then it is over."""

from collections.abc import Sequence
from datetime import datetime, timedelta

from contracts.errors import Failure
from contracts.limits import CANCEL_SECONDS, CHILDREN_CANCEL_SECONDS, StepPath
from contracts.runs import (
    ApprovalDecided,
    AttemptFailed,
    CallReceived,
    ChildBegan,
    ChildEnded,
    Decision,
    DoubtResolved,
    RunCancelled,
    RunFailed,
    RunStopping,
    SignalReceived,
    StepCancelled,
    StepFailed,
    StepReported,
    StepSucceeded,
    Unfinished,
    WaitDropped,
    WaitOpened,
)
from orchestrator.approvals import came_of_it, to_drop
from orchestrator.evolution import evolve
from orchestrator.kinship import failure_of, started_output
from orchestrator.passing import gate_of_all_runs
from orchestrator.paths import node_of
from orchestrator.state import DONE, News, Run
from orchestrator.undos import came_of_undoing, the_end


def stop(run: Run, order: Sequence[StepPath], at: datetime, error: Failure | None = None) -> list[Decision]:
    """No new step begins. It ends at once when nothing is under way; else there is a grace to say how it ended.

    That is for attempts, and for runs that it started and waits for.
    A person's wish to cancel comes before a failure, a failure before the deadline.
    """
    if error is None and run.cancel is None:
        error = _reason(run)
    closed: list[Decision] = [
        WaitDropped(wait=wait) for wait in to_drop(run) if run.waits[wait].step not in run.children
    ]
    closed += [
        StepCancelled(step=path, node=node_of(path))
        for path in order
        if path not in run.attempts
        and path not in run.children
        and run.step(path).status not in (*DONE, "cancelled")
    ]
    if not run.attempts and not run.children:
        return closed + _end(_after(run, closed, at), order, error)
    grace = timedelta(seconds=CHILDREN_CANCEL_SECONDS if run.children else CANCEL_SECONDS)
    return [
        RunStopping(outcome="cancelled" if error is None else "failed", error=error),
        *closed,
        WaitOpened(wait=f"grace:{run.opening}", kind="grace", due=at + grace),
    ]


def wind_down(run: Run, order: Sequence[StepPath], at: datetime) -> list[Decision]:
    """The end of a run that is stopping, once every attempt has said how it ended or the grace is over."""
    in_time = any(wait.kind == "grace" for wait in run.waits.values())
    if in_time and (run.attempts or run.children):
        return []
    closed: list[Decision] = [
        StepCancelled(step=path, node=node_of(path)) for path in (*run.attempts, *run.doubts, *run.children)
    ]
    closed += [WaitDropped(wait=wait) for wait in run.waits]
    error = run.stopping.error if run.stopping else None
    return closed + _end(_after(run, closed, at), order, error)


def end_without_plan(run: Run, at: datetime) -> list[Decision]:
    """Nobody knows what would follow, so the run stops; what its steps learnt is theirs all the same.

    Nor does anybody know how to undo what it had done: what is left of that is told.
    """
    told = [_learnt(path, news) for path, news in run.news.items() if not isinstance(news, WaitOpened)]
    run = _after(run, told, at)
    steps = tuple(run.steps)
    if run.phase in ("stopping", "compensating"):
        return told + wind_down(run, steps, at)
    missing = Failure(code="run.no_plan", message=f"Plan {run.plan} is not in the store.")
    return told + stop(run, steps, at, missing)


def _learnt(path: StepPath, news: News) -> Decision:
    """What an outcome says by itself: an effect that happened must not be made again when the plan is back."""
    match news:
        case StepReported():
            return StepSucceeded(step=path, node=node_of(path), ports=news.ports)
        case SignalReceived() | CallReceived():
            return StepSucceeded(step=path, node=node_of(path), output=news.body)
        case ApprovalDecided():
            return StepSucceeded(
                step=path, node=node_of(path), ports=(news.decision,), output=came_of_it(news)
            )
        case DoubtResolved(resolution="done") | ChildEnded(outcome="completed"):
            return StepSucceeded(step=path, node=node_of(path))
        case ChildBegan():
            return StepSucceeded(step=path, node=node_of(path), output=started_output(news.child))
        case ChildEnded(outcome="failed"):
            return StepFailed(step=path, node=node_of(path), error=failure_of(news))
        case AttemptFailed():
            return StepFailed(step=path, node=node_of(path), error=news.error)
        case _:
            return StepCancelled(step=path, node=node_of(path))


def _after(run: Run, decisions: Sequence[Decision], at: datetime) -> Run:
    for decision in decisions:
        run = evolve(run, decision, at)
    return run


def _reason(run: Run) -> Failure:
    failed = run.step(run.failed).error if run.failed else None
    if failed is None and run.turned_away is not None:
        of_all = run.turned_away.gate == gate_of_all_runs(run.org)
        whose = "among all runs of the org" if of_all else "at a gate of the workflow"
        return Failure(code="flow.full", message=f"So many wait {whose} that nobody else may.")
    return failed or Failure(code="run.deadline", message="The run did not end in time.")


def _end(run: Run, order: Sequence[StepPath], error: Failure | None) -> list[Decision]:
    """The terminal event, and what nobody knows the end of."""
    if run.compensating is not None:
        return [the_end(run, run.compensating)]
    unfinished = tuple(
        Unfinished(step=path, attempt=step.attempt, effect=step.effect, detail=step.detail)
        for path in order
        if (step := run.step(path)).status == "cancelled" and step.effect is not None
    )
    if error is None:
        reason = run.cancel.reason if run.cancel else ""
        return [RunCancelled(reason=reason, unfinished=unfinished, undone=came_of_undoing(run))]
    blamed = run.failed if run.failed and run.step(run.failed).error == error else None
    return [RunFailed(error=error, step=blamed, unfinished=unfinished, undone=came_of_undoing(run))]
