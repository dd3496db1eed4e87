"""Mutants of runs that start runs: what is asked for, what is believed of its end, and who stops when nobody waits."""

from typing import Final

from tests.mutants.mutant import Edit, Mutant

_ACCEPTANCE: Final = "orchestrator.acceptance"
_EVENTS: Final = "projections.events"
_EVOLUTION: Final = "orchestrator.evolution"
_FAMILY: Final = "orchestrator.family"
_KINSHIP: Final = "orchestrator.kinship"
_STAGE: Final = "families"
_STORY: Final = "tests/orchestrator/test_children.py"
_SHELL: Final = "tests/orchestrator/test_family.py"

BELIEVED_TWICE: Final = Mutant(
    name="a child's end is believed twice",
    what="What is said again of a child whose end is known is recorded again.",
    edits=[
        Edit(
            _ACCEPTANCE,
            "    if asked is None or asked.child != message.child or not asked.waits:\n",
            "    if asked is None and message.step not in run.steps:\n",
        )
    ],
    stage=_STAGE,
)
ANOTHERS_END: Final = Mutant(
    name="the end of an earlier child is believed",
    what="What is told of the run of an attempt that is over ends the wait for the next one.",
    edits=[
        Edit(
            _ACCEPTANCE,
            "    if asked is None or asked.child != message.child or not asked.waits:\n",
            "    if asked is None or not asked.waits:\n",
        ),
        Edit(
            _EVOLUTION,
            "    if asked is None or asked.child != event.child:\n",
            "    if asked is None:\n",
        ),
    ],
    stage=_STAGE,
)
SAME_CHILD_AGAIN: Final = Mutant(
    name="a retry asks for the run that failed",
    what="Every attempt at a step has the same child: the second one finds the first, which has failed.",
    edits=[Edit(_KINSHIP, 'f"{path}/{attempt}")', 'f"{path}/1")')],
    stage=_STAGE,
)
FAILURE_IS_SUCCESS: Final = Mutant(
    name="a child that failed is a child that ended",
    what="A step goes on with what its child gave, however that ended.",
    edits=[
        Edit(
            "orchestrator.turn",
            '            case ChildEnded(outcome="completed"):\n',
            '            case ChildEnded(outcome="completed" | "failed"):\n',
        )
    ],
    stage=_STAGE,
)
NEVER_ASKED_AGAIN: Final = Mutant(
    name="a child is asked for once",
    what="Whoever looks at a parent does not ask again: an end that got lost, or a start, is never heard of.",
    edits=[
        Edit(
            "orchestrator.outbound",
            "            self._family.again(known, tasks)\n",
            "            pass\n",
        )
    ],
    stage=_STAGE,
)
NOBODY_LOOKS: Final = Mutant(
    name="nobody looks at a run that waits for one that is over",
    what="What a child said of its end got lost, and its parent waits for ever.",
    edits=[
        Edit(
            _EVENTS,
            "    step.node, step.attempt, step.child, step.awaits = event.node, event.attempt, event.child, event.waits\n",
            "    step.node, step.attempt, step.child, step.awaits = event.node, event.attempt, event.child, False\n",
        )
    ],
    stage=_STAGE,
)
ENDED_UNTOLD: Final = Mutant(
    name="a child that has ended does not say so again",
    what="A start of a run that has ended is answered, and the parent that asks is not told.",
    edits=[
        Edit(
            "orchestrator.answering",
            "            self._family.tell(known, parent, tasks)\n",
            "            pass\n",
        )
    ],
    stage=_STAGE,
)
NOT_DOWN: Final = Mutant(
    name="cancelling does not flow down",
    what="A run that stops, or waits no longer, leaves its children alone.",
    edits=[
        Edit(
            _FAMILY,
            "            if asked.waits and asked.child not in heard and _is_let_go(before.run, run, asked):\n",
            "            if asked.waits and asked.child in heard and _is_let_go(before.run, run, asked):\n",
        )
    ],
    tests=[_SHELL],
)
ALL_DOWN: Final = Mutant(
    name="cancelling flows down to whom nobody waits for",
    what="A run that was started and forgotten is cancelled with the one that started it.",
    edits=[
        Edit(
            "projections.sweeper",
            "    if straggler.unwanted:\n",
            "    if straggler.unwanted or straggler.run:\n",
        )
    ],
    tests=["tests/projections/test_sweeper.py"],
)
NO_GRACE: Final = Mutant(
    name="a run that stops does not wait for its children",
    what="It ends at once, and what its children still did is told by nobody.",
    edits=[
        Edit(
            "orchestrator.stopping",
            "    if in_time and (run.attempts or run.children):\n",
            "    if in_time and run.attempts:\n",
        )
    ],
    tests=[_STORY],
)
NO_BOUND: Final = Mutant(
    name="no chain of causes is too long",
    what="Workflows that start each other do so for ever.",
    edits=[
        Edit("contracts.causes", "    if not always and not too_deep(cause):\n", "    if cause.depth >= 0:\n")
    ],
    tests=[_STORY],
)
FORGOTTEN_TOO_SOON: Final = Mutant(
    name="a run that is not waited for need not be there",
    what="The step goes on before anybody has taken the start: lost, it is asked for by nobody.",
    edits=[
        Edit(
            "orchestrator.family",
            '        if answer is None or answer.result == "refused":\n            return\n',
            "",
        )
    ],
    tests=[_SHELL],
)
UNHEARD: Final = Mutant(
    name="a failure that was told to nobody stays untold",
    what="The start of an error workflow got lost, and nobody looks whether its run is there.",
    edits=[
        Edit(_EVENTS, 'scene.run.handlers.split(",")), event.child]', 'scene.run.handlers.split(","))]'),
    ],
    stage=_STAGE,
)
TOLD_TWICE: Final = Mutant(
    name="every failure of a run is told to the same handler",
    what="A run that fails again finds that its error workflow has been started.",
    edits=[Edit(_KINSHIP, 'f"on_failure/{run.opening}")', 'f"on_failure/{run.rules}")')],
    stage=_STAGE,
)
TOLD_TOO_EARLY: Final = Mutant(
    name="a failure is told to nobody while something is under way",
    what="A run that fails with attempts under way ends without its error workflow.",
    edits=[
        Edit(
            "orchestrator.decisions",
            "        ends = wind_down(turn.run, tuple(every_step(graph, turn.run)), at)\n"
            "        return _ending(turn, _ended(turn.run, graph, ends, at, evaluate))\n",
            "        return _ending(turn, wind_down(turn.run, tuple(every_step(graph, turn.run)), at))\n",
        )
    ],
    stage=_STAGE,
)

MUTANTS: Final = (
    BELIEVED_TWICE,
    ANOTHERS_END,
    SAME_CHILD_AGAIN,
    FAILURE_IS_SUCCESS,
    NEVER_ASKED_AGAIN,
    NOBODY_LOOKS,
    ENDED_UNTOLD,
    NOT_DOWN,
    ALL_DOWN,
    NO_GRACE,
    NO_BOUND,
    FORGOTTEN_TOO_SOON,
    UNHEARD,
    TOLD_TWICE,
    TOLD_TOO_EARLY,
)
