"""Mutants of gates that gather starts: which one goes on, who stands for whom, and what gets lost on the way."""

from typing import Final

from tests.mutants.mutant import Edit, Mutant

_RULES: Final = "tests/orchestrator/test_gathering.py"
_SHELL: Final = "tests/orchestrator/test_gatekeeping_of_many.py"
_GATHERING: Final = "orchestrator.gathering"

FIRST_WINS: Final = Mutant(
    name="of a burst the first goes on",
    what="What was true at the end of a burst is superseded by what was true at its beginning.",
    edits=[
        Edit(
            _GATHERING,
            "first, newest = state.first or waiting[0].since, waiting[-1]",
            "first, newest = state.first or waiting[0].since, waiting[0]",
        )
    ],
    tests=[_RULES],
)
ENDLESS_BURST: Final = Mutant(
    name="a burst has no longest time",
    what="Where starts go on coming, none of them ever begins.",
    edits=[
        Edit(
            _GATHERING,
            "        due = min(due, first + timedelta(seconds=debounce.at_most))\n",
            "        del first\n",
        )
    ],
    tests=[_RULES],
)
OLD_NEWS: Final = Mutant(
    name="a start that is older than the last that went on goes on as well",
    what="A question that came late has an old body done after the new one.",
    edits=[
        Edit(_GATHERING, "if (gone_on := state.newest) is not None:", "if (gone_on := state.newest) is None:")
    ],
    tests=[_RULES],
)
TWICE_IN_BATCHES: Final = Mutant(
    name="a run is in two batches",
    what="One that asks again, because it did not hear that another stands for it, is done twice.",
    edits=[
        Edit(
            _GATHERING,
            "    gathered = {member for holder in state.holders for member in holder.members}\n",
            "    gathered = set[str]()\n",
        )
    ],
    tests=[_RULES],
)
HASTY_BATCH: Final = Mutant(
    name="a batch is told before the one that stands for it has what started it",
    what="The run that should stand for them ends, and what started the others is lost.",
    edits=[Edit("orchestrator.ushering", "for holder in batches if holder.began}", "for holder in batches}")],
    tests=[_SHELL],
)
BELIEVED: Final = Mutant(
    name="who has left a batch had what started it",
    what="One that was cancelled at the gate is believed to have done the work of the others.",
    edits=[Edit("orchestrator.gates", "    if holder.run in took:\n", "    if has_left:\n")],
    tests=[_RULES],
)
EMPTY_HANDED: Final = Mutant(
    name="a run stands for a batch without what started it",
    what="A run that is let in as at any other gate does its own start, and those of the others are lost.",
    edits=[
        Edit(
            "orchestrator.acceptance",
            "    if (wait.slot.bounds.batch is not None) != (message.input is not None):\n"
            "        return ()  # Whoever stands for others never begins without what has started them.\n",
            "",
        )
    ],
    tests=["tests/conformance/test_cases.py"],
)
GATHERED_AGAIN: Final = Mutant(
    name="a run that is opened again is gathered again",
    what="Whoever tries a run again finds it superseded by another one.",
    edits=[Edit("orchestrator.passing", "run.opening == 1 and not", "not")],
    tests=[_SHELL],
)
FORGETFUL: Final = Mutant(
    name="a batch is forgotten before all know who stands for them",
    what="One that did not hear it is in the next batch, too.",
    edits=[
        Edit(
            "orchestrator.gates",
            "        is_told = all(member in told for member in holder.members[1:])\n",
            "        is_told = True\n",
        )
    ],
    tests=[_RULES],
)

MUTANTS: Final = (
    FIRST_WINS,
    ENDLESS_BURST,
    OLD_NEWS,
    TWICE_IN_BATCHES,
    HASTY_BATCH,
    BELIEVED,
    EMPTY_HANDED,
    GATHERED_AGAIN,
    FORGETFUL,
)
