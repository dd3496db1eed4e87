"""Mutants of compensation: what is kept, in which order it is undone, how often, and what is told of it."""

from typing import Final

from tests.mutants.mutant import Edit, Mutant

_UNDOS: Final = "orchestrator.undos"
_UNDOING: Final = "orchestrator.undoing"
_COMMANDS: Final = "orchestrator.commands"
_TURN: Final = "orchestrator.turn"
_STAGE: Final = "undoing"
_STORY: Final = "tests/orchestrator/test_undoing.py"

TWICE: Final = Mutant(
    name="compensation twice",
    what="An undo that was made is kept, and is made again until somebody gives up.",
    edits=[Edit(_UNDOS, '"undos": without(run.undos, path)', '"undos": run.undos')],
    tests=[_STORY],
)
OLDEST_FIRST: Final = Mutant(
    name="what was done first is undone first",
    what="Undos are made in the order of the successes, and pull away what others stand on.",
    edits=[Edit(_UNDOING, "next(reversed(self._run.undos))", "next(iter(self._run.undos))")],
    stage=_STAGE,
)
ALL_AT_ONCE: Final = Mutant(
    name="everything is undone at once",
    what="An undo begins while a later one is under way.",
    edits=[
        Edit(
            _UNDOING,
            "        while not (self._run.attempts or self._run.waits or self._run.doubts):\n",
            "        while not (self._run.waits or self._run.doubts):\n",
        )
    ],
    tests=[_STORY],
)
FIRST_FAILURE_ENDS: Final = Mutant(
    name="an undo that fails ends the undoing",
    what="What was done before it stays done, and is told as left although nobody tried.",
    edits=[
        Edit(
            _UNDOING,
            "            if not self._run.undos:\n",
            "            if not self._run.undos or self._run.undone.left_in_all:\n",
        )
    ],
    tests=[_STORY],
)
NEVER_AGAIN: Final = Mutant(
    name="an undo has no retries",
    what="The first failure of an undo is its last, whatever its node says.",
    edits=[Edit(_UNDOING, '        if then == "never":\n', "        if then:\n")],
    tests=[_STORY],
)
NOT_AT_ALL: Final = Mutant(
    name="nothing is undone",
    what="A run that fails or is cancelled leaves what it had done.",
    edits=[
        Edit(
            _UNDOING,
            "    if not run.undos or not isinstance(end, RunFailed | RunCancelled):\n",
            "    if run.undos or not run.undos:\n",
        )
    ],
    stage=_STAGE,
)
LATE_SUCCESS_STAYS: Final = Mutant(
    name="what succeeds while its run stops is not undone",
    what="Only successes of a run that goes on have an undo.",
    edits=[
        Edit(
            _TURN,
            '        if not undo or self.run.step(path).status != "succeeded":\n',
            '        if not undo or self.run.step(path).status != "succeeded" or self.run.phase != "running":\n',
        )
    ],
    tests=[_STORY],
)
OPENED_AGAIN: Final = Mutant(
    name="a run that was undone is opened again",
    what="It goes on from steps whose effects are gone.",
    edits=[Edit(_COMMANDS, "    if run.compensating is not None:\n", "    if run.compensating is run:\n")],
    tests=[_STORY],
)
LEFT_UNTOLD: Final = Mutant(
    name="what could not be undone is not told",
    what="The run's end says that everything was undone.",
    edits=[Edit(_UNDOS, "left_in_all=so_far.left_in_all + 1", "left_in_all=so_far.left_in_all")],
    tests=[_STORY],
)

RUN_NOT_ASKED_FOR: Final = Mutant(
    name="a run that shall undo is never asked for",
    what="Only what a run starts while it goes on is said to anybody; a run that undoes by another one waits for ever.",
    edits=[
        Edit(
            "orchestrator.kinship",
            "    return run.acts and child_wait(asked) in run.waits\n",
            '    return run.phase == "running" and child_wait(asked) in run.waits\n',
        )
    ],
    tests=[_STORY],
)
WITHOUT_BOUND: Final = Mutant(
    name="what would have to be undone is kept without a bound",
    what="A long loop fills the state of its run with undos.",
    edits=[
        Edit(_UNDOS, "    return len(undos) >= UNDOS_KEPT or size >= UNDOS_BYTES\n", "    return False\n")
    ],
    tests=[_STORY],
)
TAKEN_UP_AS_RUNNING: Final = Mutant(
    name="a run that undoes is told as running when it was parked",
    what="Who looks at it believes that it does what it was drawn for.",
    edits=[
        Edit(
            "projections.events",
            '    run.status = "running" if run.undone is None else "compensating"\n',
            '    run.status = "running"\n',
        )
    ],
    tests=["tests/projections/test_runs.py"],
)

MUTANTS: Final = (
    TWICE,
    OLDEST_FIRST,
    ALL_AT_ONCE,
    FIRST_FAILURE_ENDS,
    NEVER_AGAIN,
    NOT_AT_ALL,
    LATE_SUCCESS_STAYS,
    OPENED_AGAIN,
    LEFT_UNTOLD,
    RUN_NOT_ASKED_FOR,
    WITHOUT_BOUND,
    TAKEN_UP_AS_RUNNING,
)
