"""Mutants of the door and of the dispatch: which run a delivery stands for, when it is accepted, and which run it stands behind."""

from typing import Final

from tests.mutants.mutant import Edit, Mutant

_ACCEPT: Final = "ingress.accept"
_STARTS: Final = "ingress.starts"
_DISPATCH: Final = "chassis.dispatch"
_TRAILS: Final = "chassis.edge.trails"

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
            "            await self._inbox.put(number, encode_bundle(kept))\n",
            "            try:\n                await self._inbox.put(number, encode_bundle(kept))\n"
            "            except Away:\n                pass\n",
        )
    ],
)
NO_FALLBACK: Final = Mutant(
    name="no INBOX behind the call",
    what="A call that nobody answers in time counts as accepted.",
    edits=[
        Edit(
            _DISPATCH,
            "            await self._inbox.put(number, encode_bundle(kept))\n",
            "            pass\n",
        )
    ],
)
NOT_LOOKED_UP: Final = Mutant(
    name="what went through INBOX is new",
    what="A delivery that went through INBOX is told that it started its run, although another one did.",
    edits=[
        Edit(
            _STARTS,
            "        if start.dedupe is not None:\n            found",
            "        if start.dedupe is None:\n            found",
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
    edits=[Edit(_STARTS, '        if answer.result == "refused":\n', "        if False:\n")],
    tests=["tests/ingress/test_door.py::test_a_start_that_its_owner_refused_is_not_accepted"],
)

BEGINS_ANEW: Final = Mutant(
    name="what our own run asks for begins anew",
    what="Whoever calls us stands at the beginning: a workflow that calls its own address goes round for ever.",
    edits=[
        Edit(
            _TRAILS,
            "        cause = structs.replace(cause, depth=asking.depth, chain=asking.chain, run=asking.run)\n",
            "        cause = structs.replace(cause, run=asking.run)\n",
        )
    ],
    tests=["tests/ingress/test_loops.py"],
)
ROUND_BY_ADDRESS: Final = Mutant(
    name="a loop by our own address has only the bound on depth",
    what="A workflow that calls itself twice each time starts tens of thousands of runs before it is stopped.",
    edits=[Edit(_TRAILS, ", always=goes_round((*cause.chain, workflow)))", ")")],
    tests=["tests/chassis/test_trails.py"],
)
SAID_TO_EVERYBODY: Final = Mutant(
    name="everybody is told which run calls",
    what="Ids of runs and workflows, and a proof that can be sent again, go to every server that is called.",
    edits=[
        Edit(
            "chassis.egress.client",
            "ours=hop.cause is not None and self._own.has(hop.target)",
            "ours=hop.cause is not None",
        )
    ],
    tests=["tests/chassis/test_egress_own.py"],
)
BELIEVED_OF_ANOTHER_ORG: Final = Mutant(
    name="a proof is good for every org",
    what="What a run of one org says about itself is believed by another org's triggers.",
    edits=[
        Edit(
            "chassis.chains",
            "return asking if asking.org == org and is_fresh else None",
            "return asking if is_fresh else None",
        )
    ],
    tests=["tests/chassis/test_chains.py"],
)
BELIEVED_FOR_EVER: Final = Mutant(
    name="a proof is good for ever",
    what="Whoever has seen one may say for years that a run of ours asks.",
    edits=[
        Edit(
            "chassis.chains",
            "return asking if asking.org == org and is_fresh else None",
            "return asking if asking.org == org else None",
        )
    ],
    tests=["tests/chassis/test_chains.py"],
)

MUTANTS: Final = (
    FRESH_RUN_ID,
    ACCEPTED_BEFORE_STORED,
    NO_FALLBACK,
    NOT_LOOKED_UP,
    ANSWER_OF_ANOTHER,
    REFUSED_IS_ACCEPTED,
    BEGINS_ANEW,
    ROUND_BY_ADDRESS,
    SAID_TO_EVERYBODY,
    BELIEVED_OF_ANOTHER_ORG,
    BELIEVED_FOR_EVER,
)
