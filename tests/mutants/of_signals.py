"""Mutants of what is said to runs: who hears it, how often it counts, and what it ends."""

from typing import Final

from tests.mutants.mutant import Edit, Mutant

_COMMANDS: Final = "orchestrator.commands"
_EVENTS: Final = "projections.events"
_WAITED: Final = "orchestrator.waited"
_STORY: Final = "tests/orchestrator/test_signals.py"

COUNTED_TWICE: Final = Mutant(
    name="a signal counts as often as it is said",
    what="What was said again under the same key is recorded again.",
    edits=[Edit(_COMMANDS, "    if message.key in run.heard:\n", "    if message.key in ():\n")],
)
FORGOTTEN_WHEN_HEARD: Final = Mutant(
    name="a signal that was waited for may be said again",
    what="Only the keys of what is kept are remembered.",
    edits=[
        Edit(
            _WAITED,
            '        "heard": heard,\n        "waits": without(run.waits, wait.wait),\n'
            '        "news": {**run.news, event.step: event},\n',
            '        "waits": without(run.waits, wait.wait),\n        "news": {**run.news, event.step: event},\n',
        )
    ],
)
OTHER_WORDS: Final = Mutant(
    name="anything may be said under one key",
    what="Who says something else under a used key is told that it is known.",
    edits=[
        Edit(
            _COMMANDS,
            "        return () if same else _refuse(",
            "        return () if same or True else _refuse(",
        )
    ],
    tests=[_STORY],
)
EARLY_LOST: Final = Mutant(
    name="what is said before anything waits is lost",
    what="A signal that nothing waits for yet is taken and not recorded.",
    edits=[
        Edit(
            _COMMANDS,
            "    if waiting is None and len(run.signals) >= SIGNALS_KEPT:\n",
            "    if waiting is None and run.active:\n        return ()\n"
            "    if waiting is None and len(run.signals) >= SIGNALS_KEPT:\n",
        )
    ],
)
EARLY_UNHEARD: Final = Mutant(
    name="what was said before is not heard",
    what="A wait that opens does not look at what was said before it.",
    edits=[
        Edit(
            _WAITED,
            "    if said is not None and event.step is not None:\n",
            "    if said is not None and not event.wait:\n",
        )
    ],
    stage="people speak first",
)
EARLY_TWICE: Final = Mutant(
    name="what was said before is for everybody",
    what="Two waits for one name go on with the same saying.",
    edits=[
        Edit(
            _WAITED,
            '            "signals": tuple(each for each in run.signals if each is not said),\n',
            '            "signals": run.signals,\n',
        )
    ],
    stage="people speak first",
)
NEWEST_FIRST: Final = Mutant(
    name="what was said last is heard first",
    what="Of two sayings that are kept the newer one goes to the first wait.",
    edits=[
        Edit(
            _WAITED,
            "each for each in run.signals if each.signal == event.signal)",
            "each for each in reversed(run.signals) if each.signal == event.signal)",
        )
    ],
    tests=[_STORY],
)
ANOTHER_NAME: Final = Mutant(
    name="a signal goes to whatever waits",
    what="A wait for one name takes what was said under another.",
    edits=[
        Edit(
            _COMMANDS,
            "for wait in run.waits.values() if wait.signal == message.signal)",
            "for wait in run.waits.values() if wait.signal is not None)",
        ),
        Edit(
            _WAITED,
            "for wait in run.waits.values() if wait.signal == event.signal)",
            "for wait in run.waits.values() if wait.signal is not None)",
        ),
    ],
)
TIMEOUT_WINS: Final = Mutant(
    name="a timeout wins after the signal came",
    what="What was said does not end its wait, which runs out of time later.",
    edits=[
        Edit(
            _WAITED,
            '        "heard": heard,\n        "waits": without(run.waits, wait.wait),\n',
            '        "heard": heard,\n',
        )
    ],
)
HEARD_BUT_LATE: Final = Mutant(
    name="whoever was heard goes on as if nobody had spoken",
    what="The step gives its input instead of what was said.",
    edits=[
        Edit(
            "orchestrator.turn",
            "                self.say(StepSucceeded(step=path, node=node.id, output=news.body))\n",
            '                self._pass_on(path, node, "main")\n',
        )
    ],
)
STILL_WAITING: Final = Mutant(
    name="the read models do not hear signals",
    what="A run whose signal came is shown as waiting for it.",
    edits=[
        Edit(
            _EVENTS,
            "        return  # The run keeps it for a wait to come.\n    step = scene.step(event.step)\n",
            "        return  # The run keeps it for a wait to come.\n    return\n",
        ),
        Edit(
            _EVENTS,
            '    if step.status == "waiting":  # For something that had been said before.\n'
            "        _close_wait_of(scene.run, step)\n",
            "",
        ),
    ],
    tests=["tests/projections/test_runs.py"],
)

MUTANTS: Final = (
    COUNTED_TWICE,
    FORGOTTEN_WHEN_HEARD,
    OTHER_WORDS,
    EARLY_LOST,
    EARLY_UNHEARD,
    EARLY_TWICE,
    NEWEST_FIRST,
    ANOTHER_NAME,
    TIMEOUT_WINS,
    HEARD_BUT_LATE,
    STILL_WAITING,
)
