"""What is remembered of undos: one is kept for every success that can be undone, until it has been made or was given up.

Rule that holds here: an undo that is over is kept no longer. So none is made twice, however often somebody looks.
"""

from datetime import datetime
from typing import Final

from msgspec import structs

from contracts.errors import Failure
from contracts.limits import UNDOS_BYTES, UNDOS_KEPT, UNDOS_SHOWN, StepPath
from contracts.payloads import Inline
from contracts.runs import RunCancelled, RunCompensating, RunFailed, UndoKept, Undone
from orchestrator.moves import Changes, without
from orchestrator.state import Run

TOO_MUCH: Final = Failure(
    code="undo.too_many",
    message="The run has done so much that would have to be undone that nothing more of the kind is begun.",
)


def holds_enough(run: Run) -> bool:
    """Whether nothing more may begin that would have to be undone: in number, or by what it takes to remember it."""
    undos = run.undos.values()
    size = sum(len(undo.config.value) for undo in undos if isinstance(undo.config, Inline))
    return len(undos) >= UNDOS_KEPT or size >= UNDOS_BYTES


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
