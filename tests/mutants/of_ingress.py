"""Mutants of the door and of the dispatch: which run a delivery stands for, and when it is accepted."""

from typing import Final

from tests.mutants.mutant import Edit, Mutant

_ACCEPT: Final = "ingress.accept"
_DISPATCH: Final = "chassis.dispatch"

FRESH_RUN_ID: Final = Mutant(
    name="a run of its own for every delivery",
    what="The run's id comes from the receipt, not from the key: a delivery that comes again starts a second run.",
    edits=[
        Edit(
            _ACCEPT,
            '        source = f"key:{key}" if key is not None else f"receipt:{admitted.receipt}"',
            '        source = f"receipt:{admitted.receipt}"',
        )
    ],
)
ACCEPTED_BEFORE_STORED: Final = Mutant(
    name="202 before the start is stored",
    what="What INBOX could not take is accepted all the same.",
    edits=[
        Edit(
            _DISPATCH,
            "        await self._inbox.put(number, body)\n",
            "        try:\n            await self._inbox.put(number, body)\n        except Away:\n            pass\n",
        )
    ],
)
NO_FALLBACK: Final = Mutant(
    name="no INBOX behind the call",
    what="A call that nobody answers in time counts as accepted.",
    edits=[Edit(_DISPATCH, "        await self._inbox.put(number, body)\n", "")],
)
NOT_LOOKED_UP: Final = Mutant(
    name="what went through INBOX is new",
    what="A delivery that went through INBOX is told that it started its run, although another one did.",
    edits=[
        Edit(
            _ACCEPT,
            "        if named.key is not None:\n            found",
            "        if named.key is None:\n            found",
        )
    ],
    stage="told apart",
)
ANSWER_OF_ANOTHER: Final = Mutant(
    name="answers of a bundle out of place",
    what="Each sender is told what came of its neighbour's message.",
    edits=[
        Edit(
            _DISPATCH,
            "        for letter, answer in zip(letters, answers, strict=True):",
            "        for letter, answer in zip(letters, reversed(answers), strict=True):",
        )
    ],
)
REFUSED_IS_ACCEPTED: Final = Mutant(
    name="what its owner refused is accepted",
    what="Somebody is told 202 of a start that nobody can read, or that our code raises on.",
    edits=[Edit(_ACCEPT, '        if answer.result == "refused":\n', "        if False:\n")],
    tests=["tests/ingress/test_door.py::test_a_start_that_its_owner_refused_is_not_accepted"],
)

MUTANTS: Final = (
    FRESH_RUN_ID,
    ACCEPTED_BEFORE_STORED,
    NO_FALLBACK,
    NOT_LOOKED_UP,
    ANSWER_OF_ANOTHER,
    REFUSED_IS_ACCEPTED,
)
