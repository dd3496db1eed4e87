"""Mutants of gates: who is let in, who has left, and what is done when a word gets lost."""

from typing import Final

from tests.mutants.mutant import Edit, Mutant

_GATES: Final = "orchestrator.gates"
_KEEPER: Final = "orchestrator.gatekeeping"
_USHER: Final = "orchestrator.ushering"
_PASSING: Final = "orchestrator.passing"
_PETITIONS: Final = "orchestrator.petitions"
_RULES: Final = "tests/orchestrator/test_gates.py"
_RUNS: Final = "tests/orchestrator/test_passing.py"
_SHELL: Final = "tests/orchestrator/test_gatekeeping.py"

UNCOUNTED: Final = Mutant(
    name="a gate does not count who is inside",
    what="As many are let in each time as may be inside at all.",
    edits=[Edit(_GATES, "(limit.at_once or GATE_SLOTS) - len(held)", "limit.at_once or GATE_SLOTS")],
    tests=[_RULES],
)
LATE_WORD: Final = Mutant(
    name="a word of an earlier opening frees the later one",
    what="A run that was tried again loses its place to what was said of it before, and another one is inside with it.",
    edits=[Edit(_GATES, "elif holder.opening <= said.get(holder.run, 0):", "elif holder.run in said:")],
    tests=[_RULES],
)
NEVER_LEFT: Final = Mutant(
    name="a lost word of leaving is not asked for",
    what="A place whose run has ended is nobody's for ever.",
    edits=[
        Edit(
            _USHER,
            "            await self._ask_those_inside(key, gate, state.holders)\n",
            "            pass\n",
        )
    ],
    tests=[_SHELL],
)
SILENT_GUEST: Final = Mutant(
    name="a run that has ended does not say so when it is asked",
    what="The gate asks those inside, and nobody answers.",
    edits=[Edit(_PETITIONS, "        tasks.create_task(self._say(gone))\n", "        del gone, tasks\n")],
    tests=[_SHELL],
)
ASKS_ONCE: Final = Mutant(
    name="a run asks a gate once",
    what="Whoever looks at a run whose question was lost leaves it at the gate.",
    edits=[
        Edit(
            _PETITIONS,
            "        for wait in known.run.waits.values() if known.run.active else ():\n"
            "            self._ask(known, wait, tasks)\n",
            "",
        )
    ],
    tests=[_SHELL],
)
TOLD_ONCE: Final = Mutant(
    name="who was let in is told once",
    what="A run that did not hear that it is inside waits until somebody looks at it.",
    edits=[
        Edit(
            _USHER,
            "            if await self._told(message) and gate.asking.get(run) == asking[run]:",
            "            await self._told(message)\n            if gate.asking.get(run) == asking[run]:",
        )
    ],
    tests=[_SHELL],
)
HASTY: Final = Mutant(
    name="who is skipped is skipped at once",
    what="A run whose word of leaving was lost has the next one sent away.",
    edits=[
        Edit(_USHER, " for run in decided.refused if run in gate.doubted]", " for run in decided.refused]")
    ],
    tests=[_SHELL],
)
SILENT_KEEPER: Final = Mutant(
    name="a keeper that is stopped tells nobody who waits",
    what="Those who wait are not let in until the sweeper has them ask again.",
    edits=[
        Edit(
            _KEEPER,
            "                await self._inbox.put(partition(key[1]), bundle)",
            "                del bundle",
        )
    ],
    tests=[_SHELL],
)
UNWOKEN: Final = Mutant(
    name="who waits for a rate is woken by the one who has the gate",
    what="After a kill nobody is let in when the rate would: somebody has to come by.",
    edits=[
        Edit(
            _KEEPER,
            "            await self._inbox.wake_at([(GateLook(org=key[0], run=key[1]), due)])\n",
            "",
        )
    ],
    tests=[_SHELL],
)
DEAF_LOOK: Final = Mutant(
    name="a new owner of a gate asks nobody",
    what="Those of whom GATES says that they are next wait until the sweeper comes by.",
    edits=[Edit(_KEEPER, "known.state.next if gate.is_new else ()", "()")],
    tests=[_SHELL],
)
WEIGHTLESS: Final = Mutant(
    name="who waits at gates does not count",
    what="An org begins runs that wait at gates until the engine has no room for their names.",
    edits=[Edit("chassis.held", "waiting[org] += runs // AT_GATES", "del runs")],
    tests=["tests/gateway/test_pauses_api.py"],
)
PATIENT_KEEPER: Final = Mutant(
    name="a gate hears nothing while it speaks",
    what="A run in the gate's own partition waits for what is said to it behind those who wait for the gate's answer.",
    edits=[
        Edit(
            _USHER,
            "            self._beside(gate, run, partial(tell, run, message))\n",
            "            await tell(run, message)\n",
        )
    ],
    tests=[_SHELL],
)
OPEN_DOOR: Final = Mutant(
    name="a run begins at its gate",
    what="What is learnt while a run stands at a gate leads on to other steps.",
    edits=[
        Edit(
            "orchestrator.turn",
            "        if may_stand(self.run, self._graph.plan) and at_gate(self.run):\n            return\n",
            "",
        )
    ],
    tests=[_RUNS],
)
KEPT_PLACE: Final = Mutant(
    name="a run that is opened again is still inside",
    what="It begins without asking, while another one has its place.",
    edits=[Edit("orchestrator.evolution", '        "slots": (),\n', "")],
    tests=[_RUNS],
)
ONE_GATE_FOR_ALL: Final = Mutant(
    name="every key has the same gate",
    what="One customer's runs wait for another's.",
    edits=[
        Edit(
            _PASSING,
            "_gate(run.org, _owner(run, limit), limit.name, key)",
            '_gate(run.org, _owner(run, limit), limit.name, "")',
        )
    ],
    tests=[_RUNS],
)
CHILD_IN_THE_WAY: Final = Mutant(
    name="a run that is waited for wants a place among all runs",
    what="A run waits for a run that waits for its place, and for nobody else's: neither ever goes on.",
    edits=[
        Edit(
            _PASSING,
            "if run.org_limit is not None and not is_awaited:",
            "if run.org_limit is not None:",
        )
    ],
    tests=[_RUNS],
)
ALL_RUNS_LAST: Final = Mutant(
    name="the gate of all runs comes last",
    what="Whoever has a place at another gate waits among all runs for one that waits for that gate: neither goes on.",
    edits=[
        Edit(
            _PASSING,
            "not isinstance(limit, _OfAllRuns), limit.across",
            "isinstance(limit, _OfAllRuns), limit.across",
        )
    ],
    tests=[_RUNS],
)
HELD_FOR_EVER: Final = Mutant(
    name="a limit of all runs that is taken back holds those who wait",
    what="What counted when the run that came last was started counts for ever.",
    edits=[
        Edit(
            _KEEPER,
            "            return everybodys((await self._limits_of(key[0])).get(ALL_RUNS))\n",
            "            return next(iter(asking.values())).wanted.bounds\n",
        )
    ],
    tests=[_SHELL],
)
UNHURRIED: Final = Mutant(
    name="what an expression gives as a priority is not kept",
    what="Every run of the workflow goes as soon as any other.",
    edits=[Edit("orchestrator.consider", "structs.replace(fact, priority=priority)", "fact")],
    tests=["tests/orchestrator/test_evaluation.py"],
)
MUTANTS: Final = (
    UNCOUNTED,
    LATE_WORD,
    NEVER_LEFT,
    SILENT_GUEST,
    ASKS_ONCE,
    TOLD_ONCE,
    HASTY,
    SILENT_KEEPER,
    UNWOKEN,
    DEAF_LOOK,
    WEIGHTLESS,
    PATIENT_KEEPER,
    OPEN_DOOR,
    KEPT_PLACE,
    ONE_GATE_FOR_ALL,
    CHILD_IN_THE_WAY,
    ALL_RUNS_LAST,
    HELD_FOR_EVER,
    UNHURRIED,
)
