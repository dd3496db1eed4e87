"""Mutants of what is sealed where it comes in: one door of each kind that lets something in open."""

from typing import Final

from tests.mutants.mutant import Edit, Mutant

MUTANTS: Final = (
    Mutant(
        name="marks: a form's answer is kept as it was given",
        what="What a form marks lies open in the history of its run.",
        edits=[Edit("ingress.forms", "        if opened.form.sensitive:\n", "        if not opened.form:\n")],
        tests=["tests/ingress/test_forms.py"],
    ),
    Mutant(
        name="marks: an owner takes a signal that was not sealed",
        what="What nobody looked at lies open in the history.",
        edits=[
            Edit(
                "orchestrator.commands",
                "    if not message.is_sealed and (graph is None or message.signal in graph.sealed_signals):\n",
                "    if not message.is_sealed and graph is None:\n",
            )
        ],
        tests=["tests/conformance/test_cases.py"],
    ),
    Mutant(
        name="marks: a signal that nobody answers is kept before it is looked at",
        what="What is marked lies open in INBOX while the run's owner is away.",
        edits=[
            Edit(
                "gateway.runs.store",
                "            answer = await self._dispatch.ask(message)\n",
                "            answer = await self._dispatch.send(message)\n",
            )
        ],
        tests=["tests/gateway/test_runs_api.py"],
    ),
    Mutant(
        name="marks: a decision is known again by a plain hash",
        what="Whoever reads the history finds a short number by trying all of them.",
        edits=[
            Edit(
                "chassis.decisions",
                "    return digest(encode(said)) if sealer is None else sealer.proof(encode(said))\n",
                "    return digest(encode(said))\n",
            )
        ],
        tests=["tests/gateway/test_approvals_api.py"],
    ),
    Mutant(
        name="marks: a comment is not sealed with its fields",
        what="What a person wrote beside a form lies open.",
        edits=[
            Edit(
                "chassis.decisions",
                '        comment=words if isinstance(words, str) else mark(words[SEALED]) or "",\n',
                "        comment=comment,\n",
            )
        ],
        tests=["tests/ingress/test_answering.py"],
    ),
    Mutant(
        name="marks: a worker's output is kept as it was reported",
        what="What a worker outside brings of a marked field lies open.",
        edits=[Edit("gateway.workers.desk", "            sensitive=task.sensitive,\n", "")],
        tests=["tests/gateway/test_workers_api.py"],
    ),
    Mutant(
        name="marks: a person's output for a step in doubt is not sealed",
        what="What a person looked up lies open, though the node marks it.",
        edits=[
            Edit(
                "gateway.runs.store",
                '        if wanted.resolution == "done":\n',
                '        if wanted.resolution == "never":\n',
            )
        ],
        tests=["tests/gateway/test_runs_api.py"],
    ),
    Mutant(
        name="marks: the lines of an attempt that brings nothing are told",
        what="What a node said before it failed shows what it would have brought.",
        edits=[
            Edit(
                "executor.speaking",
                "        if self._held and not brought and self._is_strange:\n",
                "        if self._held and brought and self._is_strange:\n",
            )
        ],
        tests=["tests/executor/test_sensitive.py"],
    ),
    Mutant(
        name="marks: an error tells what was opened for its attempt",
        what="A sealed value stands in the history of the attempt that failed with it.",
        edits=[
            Edit(
                "executor.attempt",
                "        return self._linked.text(Redaction.of(self.unsealed).text(plain))[:2_000]\n",
                "        return self._linked.text(plain)[:2_000]\n",
            )
        ],
        tests=["tests/executor/test_sensitive.py"],
    ),
)
