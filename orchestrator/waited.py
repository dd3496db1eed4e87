"""How waits and signals are remembered: what a run waits for, what ended it, and what was said before anything waited."""

from datetime import datetime

from msgspec import structs

from contracts.limits import SIGNALS_REMEMBERED, Sha256, SignalKey, WaitName
from contracts.runs import (
    ApprovalDecided,
    ApprovalEscalated,
    CallReceived,
    SignalReceived,
    WaitDropped,
    WaitEnded,
    WaitOpened,
)
from orchestrator.moves import Changes, moved, without
from orchestrator.state import Heard, Run


def wait_ended(run: Run, event: WaitEnded, _at: datetime) -> Changes:
    wait = run.waits.get(event.wait)
    changes: Changes = {"waits": _without_wait(run, event.wait)}
    if wait is not None and wait.step is not None and run.step(wait.step).status == "waiting":
        changes["news"] = {**run.news, wait.step: wait}
    return changes


def wait_answered(run: Run, event: CallReceived | ApprovalDecided, _at: datetime) -> Changes:
    if event.wait not in run.waits:
        return {}
    step = structs.replace(run.step(event.step), heard=Heard(by=event.by, request=event.request))
    return {
        "steps": {**run.steps, event.step: step},
        "waits": _without_wait(run, event.wait),
        "news": {**run.news, event.step: event},
    }


def signal_received(run: Run, event: SignalReceived, _at: datetime) -> Changes:
    if not run.active or event.key in run.heard:
        return {}
    heard = {**_remembered(run), event.key: event.request}
    listening = (wait for wait in run.waits.values() if wait.signal == event.signal)
    wait = next((wait for wait in listening if wait.step == event.step), None)
    if event.step is None or wait is None:
        return {"heard": heard, "signals": (*run.signals, event)}
    return {
        "heard": heard,
        "waits": without(run.waits, wait.wait),
        "news": {**run.news, event.step: event},
    }


def wait_opened(run: Run, event: WaitOpened, _at: datetime) -> Changes:
    changes = moved(run, event.step, event) if event.step else {}
    said = next((each for each in run.signals if each.signal == event.signal), None)
    if said is not None and event.step is not None:
        # It was said before anything waited for it: the wait is over at once.
        return changes | {
            "signals": tuple(each for each in run.signals if each is not said),
            "news": {**changes.get("news", run.news), event.step: said},
        }
    return changes | {"waits": {**run.waits, event.wait: event}}


def wait_dropped(run: Run, event: WaitDropped, _at: datetime) -> Changes:
    return {"waits": _without_wait(run, event.wait)}


def escalated(run: Run, event: ApprovalEscalated, _at: datetime) -> Changes:
    return {"news": without(run.news, event.step)} if event.step in run.news else {}


def _without_wait(run: Run, name: WaitName) -> dict[WaitName, WaitOpened]:
    """An approval's end is the end of its escalation, too."""
    wait = run.waits.get(name)
    if wait is None or wait.kind != "approval":
        return without(run.waits, name)
    return {each: other for each, other in run.waits.items() if other.step != wait.step}


def _remembered(run: Run) -> dict[SignalKey, Sha256 | None]:
    """Room for one more key. Those of signals that nothing has waited for yet are never forgotten."""
    if len(run.heard) < SIGNALS_REMEMBERED:
        return run.heard
    kept = {each.key for each in run.signals}
    return without(run.heard, next((key for key in run.heard if key not in kept), None))
