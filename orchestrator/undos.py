"""What is remembered of undos: one is kept for every success that can be undone, until it has been made or was given up.

Rule that holds here: an undo that is over is kept no longer. So none is made twice, however often somebody looks.
"""

from datetime import datetime

from msgspec import structs

from contracts.limits import UNDOS_SHOWN, StepPath
from contracts.runs import RunCancelled, RunCompensating, RunFailed, UndoKept, Undone
from orchestrator.moves import Changes, without
from orchestrator.state import Run


def kept(run: Run, event: UndoKept, _at: datetime) -> Changes:
    """The step that succeeded last is undone first."""
    return {"undos": {**run.undos, event.step: event}}


def over(run: Run, path: StepPath, *, undone: bool) -> Changes:
    """What came of a step, where it was one that undoes another."""
    undo = run.undos.get(path)
    if undo is None:
        return {}
    so_far = run.undone
    if undone:
        so_far = structs.replace(so_far, steps=so_far.steps + 1)
    else:
        left = (*so_far.left, undo.undoes)[:UNDOS_SHOWN]
        so_far = structs.replace(so_far, left=left, left_in_all=so_far.left_in_all + 1)
    return {"undos": without(run.undos, path), "undone": so_far}


def came_of_undoing(run: Run) -> Undone | None:
    """As the run's end tells it; what nobody began is left as well. None: it had done nothing that can be undone."""
    if run.compensating is None and not run.undos:
        return None
    never = tuple(undo.undoes for undo in reversed(run.undos.values()))
    return structs.replace(
        run.undone,
        left=(*run.undone.left, *never)[:UNDOS_SHOWN],
        left_in_all=run.undone.left_in_all + len(never),
    )


def before_the_end(end: RunFailed | RunCancelled) -> RunCompensating:
    """The run will end so, once what it had done is undone."""
    match end:
        case RunFailed():
            return RunCompensating(
                outcome="failed", error=end.error, step=end.step, unfinished=end.unfinished
            )
        case RunCancelled():
            return RunCompensating(outcome="cancelled", reason=end.reason, unfinished=end.unfinished)


def the_end(run: Run, compensating: RunCompensating) -> RunFailed | RunCancelled:
    """As it was said before anything was undone."""
    unfinished, undone = compensating.unfinished, came_of_undoing(run)
    if compensating.error is None:
        return RunCancelled(reason=compensating.reason, unfinished=unfinished, undone=undone)
    return RunFailed(error=compensating.error, step=compensating.step, unfinished=unfinished, undone=undone)
