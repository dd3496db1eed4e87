"""Mutants of the executor: leases, claims, what is told of an attempt."""

from typing import Final

from tests.mutants.mutant import Edit, Mutant

_ATTEMPT: Final = "executor.attempt"
_SERVICE: Final = "executor.service"

NOT_VOUCHED: Final = Mutant(
    name="an attempt denies its call without a claim",
    what="That nothing happened is told although another executor may have called.",
    edits=[
        Edit(
            _ATTEMPT,
            'if denies and self._promise == "no" and',
            'if denies and self._promise == "yes" and',
        )
    ],
    stage="standing still",
)
CLAIM_AFTER_CALL: Final = Mutant(
    name="claimed after the call",
    what="The ledger learns of a call when it is over: two executors make it.",
    edits=[
        Edit(
            _ATTEMPT,
            'if self._promise == "no" and not await self._claim():',
            "if self._elsewhere:",
        ),
        Edit(
            _ATTEMPT,
            '        self._stage = "after"\n',
            '        self._stage = "after"\n'
            '        if self._promise == "no" and not await self._claim():\n'
            "            self._elsewhere = True\n"
            "            raise ClaimedElsewhere\n",
        ),
    ],
)
ANY_CLAIM_IS_OURS: Final = Mutant(
    name="another's claim is our own",
    what="A call that somebody else has begun is made again.",
    edits=[Edit("executor.effects", "        return sequence is not None", "        return True")],
)
CLAIMED_ELSEWHERE_FAILED: Final = Mutant(
    name="what another has claimed is a failure",
    what="An attempt that another executor has begun is told as one that failed, and is made again.",
    edits=[
        Edit(
            _ATTEMPT,
            '        if self._promise == "no" and error.touched:\n',
            '        if self._promise == "no" and error.touched and not isinstance(error, Unheard):\n',
        )
    ],
)
UNKNOWN_IS_FAILURE: Final = Mutant(
    name="an unknown outcome is a failure",
    what="A call without an answer counts as one that did not happen.",
    edits=[Edit(_ATTEMPT, '        if self._promise == "no" and error.touched:\n', "        if False:\n")],
)
ECHO_UNCHECKED: Final = Mutant(
    name="a task that comes again is not looked up",
    what="An attempt that is done is made again after a restart of the servers.",
    edits=[
        Edit(
            _SERVICE,
            "            outcome = await attempt.make(doubtful=self._may_be_an_echo(lease))",
            "            outcome = await attempt.make(doubtful=False)",
        )
    ],
    stage="restarts",
)
ECHO_WITHOUT_LOOK: Final = Mutant(
    name="a task that nobody waits for is dropped in silence",
    what="Whoever recorded its outcome may have died before it asked for what follows; nobody is told.",
    edits=[
        Edit(
            _SERVICE,
            "            await insist(lambda: self._dispatch.send(look))\n",
            "            del look\n",
        )
    ],
    stage="unswept",
)
DONE_BEFORE_TOLD: Final = Mutant(
    name="a task is acknowledged before its outcome was accepted",
    what="An executor that dies between loses the outcome.",
    edits=[
        Edit(
            _SERVICE,
            "        if outcome is None:\n            # Whoever recorded",
            "        lease.done()\n        if outcome is None:\n            # Whoever recorded",
        )
    ],
    stage="told once",
)
NO_HEARTBEAT: Final = Mutant(
    name="a lease is not extended",
    what="An attempt that takes longer than a lease is given to a second executor.",
    edits=[Edit("executor.leases", "            delivery.working()", "            pass")],
    stage="nothing goes wrong",
)
STOPPING_UNSEEN: Final = Mutant(
    name="an attempt of a run that stops is begun",
    what="A task that comes after its run was stopped is attempted.",
    edits=[
        Edit(
            _ATTEMPT,
            '        self.unwanted = self.unwanted or standing == "stopping"\n',
            "",
        )
    ],
    tests=[
        "tests/executor/test_attempts.py::test_a_task_of_a_run_that_is_stopping_is_let_go_when_it_is_looked_up"
    ],
)
DURING_IS_BEFORE: Final = Mutant(
    name="a call under way counts as not begun",
    what="An attempt that is stopped in its call says that nothing happened.",
    edits=[
        Edit(
            _ATTEMPT,
            "        effect, detail = _LET_GO[self._stage]\n",
            '        effect, detail = _LET_GO["before"]\n',
        )
    ],
    stage="a closer look",
)
NEVER_GIVEN_UP: Final = Mutant(
    name="a node that does not stop is waited for",
    what="An attempt whose code ignores its end is never told.",
    edits=[
        Edit(
            _SERVICE,
            "                if lease.attempt.overdue_by(now) > STUBBORN_SECONDS and not lease.told:",
            "                if lease.attempt.overdue_by(now) > 10**9 and not lease.told:",
        )
    ],
    stage="stubborn nodes",
)
NO_TIMEOUT: Final = Mutant(
    name="an attempt has all the time in the world",
    what="A call that never answers is never told.",
    edits=[
        Edit(
            _ATTEMPT,
            "        bound = asyncio.timeout(self.task.timeout_s)\n",
            "        bound = asyncio.timeout(None)\n",
        ),
        Edit(_ATTEMPT, "        self._must_end = min(self._must_end, began + task.timeout_s)\n", ""),
    ],
)

MUTANTS: Final = (
    NOT_VOUCHED,
    CLAIM_AFTER_CALL,
    ANY_CLAIM_IS_OURS,
    CLAIMED_ELSEWHERE_FAILED,
    UNKNOWN_IS_FAILURE,
    ECHO_UNCHECKED,
    ECHO_WITHOUT_LOOK,
    DONE_BEFORE_TOLD,
    NO_HEARTBEAT,
    STOPPING_UNSEEN,
    DURING_IS_BEFORE,
    NEVER_GIVEN_UP,
    NO_TIMEOUT,
)
