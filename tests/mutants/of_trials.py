"""Mutants of test runs: what a pin stands for, what is left of a plan, and what is believed of a case."""

from typing import Final

from tests.mutants.mutant import Edit, Mutant

_TURN: Final = "orchestrator.turn"
_NARROWING: Final = "orchestrator.narrowing"
_PARTS: Final = "tests/orchestrator/test_narrowing.py"
_CASES: Final = "tests/gateway/test_cases_api.py"


def _trial(name: str, what: str, module: str, before: str, after: str, test: str) -> Mutant:
    return Mutant(name=name, what=what, edits=[Edit(module, before, after)], tests=[test])


MUTANTS: Final = (
    _trial(
        "a pinned node is done",
        "A test acts although something else was to stand for its node.",
        _TURN,
        "        elif node.pin is not None:",
        "        elif node.pin is node.pin is None:",
        _PARTS,
    ),
    _trial(
        "a pinned failure is none",
        "A node that is pinned to its error succeeds.",
        _TURN,
        "        elif pin.error is not None:",
        "        elif pin.error is pin:",
        _PARTS,
    ),
    _trial(
        "a pinned node keeps its place",
        "A release that knows no pins asks an executor for the node.",
        _NARROWING,
        '            place="orchestrator",\n',
        "",
        _PARTS,
    ),
    _trial(
        "what comes only before a pin runs as well",
        "A pin spares nobody the calls that lead to it.",
        _NARROWING,
        "            if name not in pins and (others_run or name in runs):",
        "            if others_run or name in runs:",
        _PARTS,
    ),
    _trial(
        "what an expression reads is left out of a test",
        "A node is tried without an output that its expressions look at.",
        _NARROWING,
        "                waiting += self._read_by(name, pins)\n",
        "",
        _PARTS,
    ),
    _trial(
        "what leads to something that is read is left out of a test",
        "A node begins before what its expressions look at is there.",
        _NARROWING,
        "            if read not in pins:",
        "            if read in pins:",
        _PARTS,
    ),
    _trial(
        "a node runs alone without what comes before it",
        "A test begins although nothing says what came of the nodes before.",
        _NARROWING,
        '        if self._part in ("node", "from"):',
        '        if self._part == "none":',
        _PARTS,
    ),
    _trial(
        "what was recorded stands for what is decided",
        "A case passes whatever the workflow decides.",
        _NARROWING,
        "return _acts(self._graph.nodes[name]) or any(",
        "return True or any(",
        _PARTS,
    ),
    _trial(
        "what waited is waited for again",
        "A case waits for somebody who said what he had to say long ago.",
        _NARROWING,
        "pin.waited or self._touches(name)",
        "self._touches(name)",
        _PARTS,
    ),
    _trial(
        "nobody is told what would have been sent",
        "A case passes whatever a call would be given.",
        _TURN,
        "if pin.evaluated else None",
        "if pin is None else None",
        _PARTS,
    ),
    _trial(
        "a test looks like a real run",
        "Nobody can leave it out of what looks after real runs.",
        "orchestrator.acceptance",
        "            mode=message.mode,\n",
        "",
        _PARTS,
    ),
    _trial(
        "a case keeps what was sealed",
        "A value that shredding a run was to destroy lives on in a case.",
        "gateway.cases.values",
        "    if is_sealed(value):\n        return LEFT_OUT\n",
        "",
        _CASES,
    ),
    _trial(
        "a run is judged by a later revision",
        "A verdict is about expectations that the run never had.",
        "gateway.cases.store",
        '        if started.cause.id != f"{name}@{kept.revision}":',
        '        if started.cause.id == "":',
        _CASES,
    ),
    _trial(
        "true equals one",
        "A case passes although a value is of another kind.",
        "gateway.cases.judging",
        "isinstance(expected, bool) is not isinstance(got, bool)",
        "expected is not expected",
        _CASES,
    ),
    _trial(
        "a captured sample is not sealed",
        "What a trigger declares as sensitive lies open in HOOKS.",
        "ingress.accept",
        "            key_id, sealer = await self._keys.sealer(admitted.trigger.org, admitted.receipt)",
        "            pass",
        "tests/ingress/test_door.py",
    ),
)
