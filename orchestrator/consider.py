"""What one message changes in one run: the facts it brings, and what follows from each. Pure."""

from datetime import datetime
from typing import Final

from msgspec import Struct, structs

from contracts.errors import Failure
from contracts.limits import EVENTS_PER_TURN
from contracts.messages import (
    CallWait,
    CancelRun,
    ChildOver,
    ChildStarted,
    DecideApproval,
    GiveSlot,
    Look,
    Message,
    RefuseSlot,
    ResolveDoubt,
    RetryRun,
    SendSignal,
    StartRun,
    StepBroken,
    StepDone,
    StepInDoubt,
    StepLetGo,
    UnparkRun,
    Wake,
)
from contracts.runs import Fact, RunEvent, RunStarted, WaitEnded
from orchestrator.passing import may_rank
from orchestrator.run import Evaluate, Graph, Refusal, Run, accept, decided, evolve

SYSTEM: Final = "system"


class Considered(Struct, frozen=True, kw_only=True):
    """The run after a message, the events that took it there, and why there are none."""

    run: Run
    events: tuple[RunEvent, ...] = ()
    refused: Failure | None = None


def consider(run: Run, graph: Graph | None, message: Message, at: datetime, evaluate: Evaluate) -> Considered:
    """Record what the message says, then decide on each fact in turn."""
    facts = accept(run, graph, message, at)
    if isinstance(facts, Refusal):
        return Considered(run=run, refused=facts.error)
    events: list[RunEvent] = []
    for each in facts:
        fact = _ranked(run, graph, each, at, evaluate) if isinstance(each, RunStarted) else each
        if not still_news(run, fact) or (isinstance(fact, WaitEnded) and len(events) >= EVENTS_PER_TURN):
            continue  # What else is due is due in the next commit as well.
        run = evolve(run, fact, at)
        events.append(fact)
        follows = decided(run, graph, fact, at, evaluate)
        run = follows.run
        events += follows.said
    return Considered(run=run, events=tuple(events))


def _ranked(run: Run, graph: Graph | None, fact: RunStarted, at: datetime, evaluate: Evaluate) -> RunStarted:
    """The start with the run's own priority, where an expression says it. One that cannot be told fails the run behind it."""
    if graph is None or fact.mode == "test" or not may_rank(run, graph.plan):
        return fact
    priority = evaluate.priority(evolve(run, fact, at))
    return fact if isinstance(priority, Failure) else structs.replace(fact, priority=priority)


def still_news(run: Run, fact: Fact) -> bool:
    """Several waits may be over at once; what followed from the first may have ended the run, and with it the others."""
    return not isinstance(fact, WaitEnded) or fact.wait in run.waits


def may_unpark(run: Run, release: str) -> bool:
    """Whether this release is the one that a parked run waits for."""
    return (
        run.status == "parked"
        and run.needs_release is not None
        and _number(run.needs_release) <= _number(release)
    )


def _number(release: str) -> list[int]:
    return [int(part) for part in release.split(".") if part.isdigit()]


def actor_of(message: Message) -> str:
    """Who is behind a message."""
    match message:
        case StartRun() | CancelRun() | RetryRun() | ResolveDoubt() | SendSignal() | UnparkRun():
            return message.actor
        case CallWait() | DecideApproval():
            return message.actor
        case StepDone() | StepBroken() | StepInDoubt() | StepLetGo():
            return message.executor
        case ChildStarted() | ChildOver():
            return f"run:{message.child}"
        case GiveSlot() | RefuseSlot():
            return f"gate:{message.gate}"
        case Wake():
            return "timer"
        case Look():
            return "sweeper"


def cause_of(message: Message) -> str:
    """What a commit names as its causation."""
    match message:
        case StartRun():
            return message.receipt
        case StepDone() | StepBroken() | StepInDoubt() | StepLetGo():
            return f"{message.step}/{message.attempt}"[:128]
        case Wake():
            return message.wait[:128]
        case SendSignal():
            return message.key
        case CallWait() | DecideApproval():
            return message.request
        case ChildStarted() | ChildOver():
            return message.child
        case GiveSlot() | RefuseSlot():
            return message.gate
        case Look() | CancelRun() | RetryRun() | ResolveDoubt() | UnparkRun():
            return str(type(message).__struct_config__.tag)
