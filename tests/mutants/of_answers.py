"""Mutants of approvals and calls: which answer counts, whose, until when, and who ever sees a link."""

from typing import Final

from tests.mutants.mutant import Edit, Mutant

_COMMANDS: Final = "orchestrator.commands"
_WAITED: Final = "orchestrator.waited"
_STORY: Final = "tests/orchestrator/test_waits.py"
_DESK: Final = "tests/ingress/test_answering.py"

LATE_BELIEVED: Final = Mutant(
    name="an approval after its deadline is believed",
    what="Whoever decides before the wake-up comes decides, however late it is.",
    edits=[
        Edit(
            _COMMANDS,
            "    if wait is None or (wait.due is not None and at >= wait.due) or",
            "    if wait is None or",
        )
    ],
)
SECOND_WINS: Final = Mutant(
    name="a second decision wins",
    what="What was decided does not end its wait, so it may be decided otherwise.",
    edits=[
        Edit(
            _WAITED,
            '        "waits": _without_wait(run, event.wait),\n        "news": {**run.news, event.step: event},\n',
            '        "news": {**run.news, event.step: event},\n',
        )
    ],
)
ANYBODY: Final = Mutant(
    name="anybody decides",
    what="Who was not asked is heard all the same.",
    edits=[
        Edit(
            "contracts.waits",
            "    return not approval.deciders or actor in asked\n",
            "    return not approval.deciders or actor in (*asked, actor)\n",
        )
    ],
)
ASKED_AT_ONCE: Final = Mutant(
    name="those who are asked later may decide at once",
    what="An approval counts as escalated from its beginning.",
    edits=[
        Edit(
            "orchestrator.approvals",
            '    return asked and escalation_wait(wait.step or "") not in run.waits\n',
            "    return asked\n",
        )
    ],
    tests=[_STORY],
)
STILL_ESCALATES: Final = Mutant(
    name="a decided approval is escalated",
    what="The end of an approval leaves its escalation open.",
    edits=[
        Edit(
            _WAITED,
            '    if wait is None or wait.kind != "approval":\n',
            '    if wait is None or wait.kind != "nothing":\n',
        )
    ],
)
FORGETS_WHO: Final = Mutant(
    name="the same decision again is another one",
    what="Who did not hear the answer and says it again is refused.",
    edits=[
        Edit(
            _COMMANDS,
            "    return heard is not None and (heard.by, heard.request) == (message.actor, message.request)\n",
            "    return False\n",
        )
    ],
    tests=[_STORY],
)
OPENED_LINK: Final = Mutant(
    name="who opens a link has decided",
    what="A mail program that looks at the links of a mail approves a payment.",
    edits=[
        Edit(
            "ingress.answering",
            '        if request.method == "GET":\n',
            '        if request.method == "HEAD":\n',
        )
    ],
    tests=[_DESK],
)
ANY_LINK: Final = Mutant(
    name="a link needs no proof",
    what="Whoever knows the id of a run answers its steps.",
    edits=[
        Edit(
            "chassis.links",
            "        if not hmac.compare_digest(proof, self._proof(named)):\n",
            "        if not hmac.compare_digest(proof, proof):\n",
        )
    ],
    tests=["tests/chassis/test_links.py"],
)
ANY_MARK: Final = Mutant(
    name="a mark needs no proof",
    what="Who writes a mark into a run has its links sent to them.",
    edits=[
        Edit(
            "chassis.links", "        if mark(place, plan) == shown[0]:\n", "        if mark(place, plan):\n"
        )
    ],
    tests=["tests/chassis/test_links.py"],
)
LINK_STORED: Final = Mutant(
    name="an output shows the link",
    what="What a call brings is stored as it is, with the link that was sent.",
    edits=[
        Edit(
            "executor.attempt",
            "            packed = await self._sealed(pack(brought.output, self._linked.data))\n",
            "            packed = await self._sealed(pack(brought.output))\n",
        )
    ],
    tests=["tests/executor/test_links.py"],
)
NOT_SEALED: Final = Mutant(
    name="a marked field is told as it is",
    what="What the builder marked as sensitive stands in the history.",
    edits=[Edit("executor.opening", "        if not task.sensitive:\n", "        if task.sensitive:\n")],
    tests=["tests/executor/test_sensitive.py"],
)
SAID_TOO_SOON: Final = Mutant(
    name="lines are told before it is known what is sensitive",
    what="What a node says of a marked value is stored before its output is there.",
    edits=[
        Edit(
            "executor.speaking", "        self._held = bool(task.sensitive)\n", "        self._held = False\n"
        )
    ],
    tests=["tests/executor/test_sensitive.py"],
)
OPENED_IS_SAID: Final = Mutant(
    name="what was opened for an attempt is said by it",
    what="A sealed value stands in a line of the attempt that was given it.",
    edits=[Edit("executor.attempt", "            self.unsealed = opened.texts\n", "")],
    tests=["tests/executor/test_sensitive.py"],
)
TYPES_SAY_NOTHING: Final = Mutant(
    name="what a type names as sensitive is told as it is",
    what="A token that was signed stands in the history, unless somebody thought of a mark.",
    edits=[
        Edit(
            "orchestrator.compiler",
            "        sensitive = spec.sensitive if node.sensitive is None else node.sensitive\n",
            "        sensitive = node.sensitive or ()\n",
        )
    ],
    tests=["tests/orchestrator/test_compiler.py"],
)
MARK_IN_A_CASE: Final = Mutant(
    name="a case keeps what was sealed inside of a text",
    what="A value that shredding a run was to destroy lives on in a case, inside of a text.",
    edits=[
        Edit(
            "gateway.cases.values",
            "        return replaced(value, lambda _blob: LEFT_OUT)\n",
            "        return value\n",
        )
    ],
    tests=["tests/gateway/test_cases_api.py"],
)

MUTANTS: Final = (
    LATE_BELIEVED,
    SECOND_WINS,
    ANYBODY,
    ASKED_AT_ONCE,
    STILL_ESCALATES,
    FORGETS_WHO,
    OPENED_LINK,
    ANY_LINK,
    ANY_MARK,
    LINK_STORED,
    NOT_SEALED,
    SAID_TOO_SOON,
    OPENED_IS_SAID,
    TYPES_SAY_NOTHING,
    MARK_IN_A_CASE,
)
