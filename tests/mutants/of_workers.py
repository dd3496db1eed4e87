"""Mutants of pools and of workers outside: no schedule of the simulation has them, so their tests must notice."""

from typing import Final

from tests.mutants.mutant import Edit, Mutant

_API: Final = "tests/gateway/test_workers_api.py"
_POOLS: Final = "tests/gateway/test_pools_api.py"
_SHELL: Final = "tests/executor/test_service.py"
_DESK: Final = "gateway.workers.desk"
_OUTCOMES: Final = "gateway.workers.outcomes"
_RULES: Final = "gateway.workers.rules"

GIVEN_AGAIN: Final = Mutant(
    name="what a worker has begun is given to another",
    what="A call that must not be repeated is made a second time when its worker falls silent.",
    edits=[Edit(_RULES, '    acted = task.repeat == "no" and claimed != "nobody"\n', "    acted = False\n")],
    tests=(f"{_API}::test_a_worker_that_says_when_it_begins_may_die_before",),
)
GIVEN_UNCLAIMED: Final = Mutant(
    name="a worker that never says that it begins has not begun",
    what="Nothing tells that it may have acted: the task is given to another.",
    edits=[
        Edit(
            _DESK,
            'if held.repeat == "no" and not asking.asked.begins and not await self._means.claims.claim(held):',
            "if False:",
        )
    ],
    tests=(f"{_API}::test_what_must_not_be_repeated_counts_as_begun_when_it_is_given",),
)
NOT_VOUCHED: Final = Mutant(
    name="a worker's denial is believed without a claim",
    what="That nothing happened is told although another may still begin it.",
    edits=[
        Edit(
            _OUTCOMES,
            'if held.repeat == "no" and claimed == "nobody" and not await self._means.claims.claim(held):',
            "if False:",
        )
    ],
    tests=(f"{_API}::test_that_nothing_happened_is_believed_only_of_who_keeps_others_from_it",),
)
CLAIM_OF_ANOTHER: Final = Mutant(
    name="another's claim is the worker's own",
    what="Two workers begin the same call.",
    edits=[Edit("gateway.workers.claims", 'await self.whose(held) == "us"', 'await self.whose(held) != ""')],
    tests=(f"{_API}::test_a_worker_that_says_when_it_begins_may_die_before",),
)
ECHO_GIVEN: Final = Mutant(
    name="an echo is given to a worker",
    what="An attempt that has ended is made again.",
    edits=[Edit(_RULES, '        return "echo"\n', '        return "give"\n')],
    tests=(f"{_API}::test_an_echo_is_not_given_and_its_run_is_looked_at",),
)
DONE_BEFORE_TOLD: Final = Mutant(
    name="a worker's task is acknowledged before its outcome is accepted",
    what="An outcome that nobody took is lost with its task.",
    edits=[
        Edit(
            _OUTCOMES,
            "        answer = await self._means.dispatch.send(outcome)\n        self._means.handing.done(held.delivery)\n",
            "        self._means.handing.done(held.delivery)\n        answer = await self._means.dispatch.send(outcome)\n",
        )
    ],
    tests=(f"{_API}::test_a_report_that_nobody_takes_is_not_accepted_and_the_task_stays",),
)
NEVER_LATE: Final = Mutant(
    name="a worker may take as long as it likes",
    what="An attempt outlives its time as long as somebody keeps its lease.",
    edits=[Edit(_DESK, "elif rules.is_late(each, self._now()):", "elif False:")],
    tests=(f"{_API}::test_an_attempt_that_takes_too_long_is_told_for_its_worker",),
)
CANCELLED_UNTOLD: Final = Mutant(
    name="a worker does not hear that nobody wants its attempt",
    what="It goes on with what was cancelled.",
    edits=[Edit(_DESK, 'if standing == "stopping" or each.name in self._unwanted:', "if False:")],
    tests=(f"{_API}::test_a_lease_is_kept_and_what_nobody_wants_is_told",),
)
LEASE_FOR_ALL: Final = Mutant(
    name="a lease opens for every pool of the org",
    what="A worker speaks for the tasks of another pool.",
    edits=[
        Edit("gateway.workers.leases", "    return hashlib.sha256(pool.encode()).digest()\n", '    return hashlib.sha256(b"").digest()\n'),
        Edit("gateway.workers.leases", "object=pool", 'object="any"'),
    ],
    tests=(f"{_API}::test_a_lease_means_nothing_to_another_pool_or_org",),
)  # fmt: skip
TYPE_OF_ANOTHER: Final = Mutant(
    name="a worker is given what it never announced",
    what="A task of any type that names the pool goes to its workers.",
    edits=[Edit(_DESK, "if task.node_type not in asking.specs:", "if False:")],
    tests=(f"{_API}::test_a_type_that_the_pool_does_not_offer_is_told_so",),
)
FETCHES_ANY: Final = Mutant(
    name="a worker fetches whatever the store has",
    what="Bytes are handed out that the task's configuration does not name.",
    edits=[Edit(_RULES, 'blob.get("sha256") == sha256', 'blob.get("sha256")')],
    tests=(f"{_API}::test_bytes_that_the_configuration_names_are_fetched_and_no_others",),
)
SECRETS_ALLOWED: Final = Mutant(
    name="a worker's form may have any word",
    what="Patterns, references and secrets of a stranger get into the compiler.",
    edits=[Edit("gateway.workers.forms", "        if word not in _WORDS:\n", "        if False:\n")],
    tests=(f"{_API}::test_a_type_that_may_not_be_offered_is_refused_with_its_place",),
)
GONE_IS_SERVED: Final = Mutant(
    name="who has gone is waited for",
    what="A task is given to a worker that has hung up, and is nobody's for half a minute.",
    edits=[Edit("gateway.workers.routes", "        gone.set()\n", "        gone.is_gone = False\n")],
    tests=(f"{_API}::test_a_worker_that_has_gone_is_given_nothing",),
)
FOREIGN_POOLS: Final = Mutant(
    name="pools of workers are everybody's",
    what="An org sees and holds the pools of another.",
    edits=[
        Edit(
            "gateway.pools.store",
            '        return durable.config.filter_subject.split(".")[2] == org\n',
            "        return True\n",
        )
    ],
    tests=(f"{_POOLS}::test_an_org_sees_the_pools_of_its_own_workers_only",),
)
SILENT_IS_THERE: Final = Mutant(
    name="an executor that fell silent is there",
    what="A lost executor is counted as capacity.",
    edits=[Edit("gateway.pools.watch", "LOST_SECONDS: Final = 3.0", "LOST_SECONDS: Final = 3_000.0")],
    tests=(f"{_POOLS}::test_who_falls_silent_is_lost_and_forgotten_after_an_hour",),
)
DRAIN_GIVES_BACK: Final = Mutant(
    name="who drains has no patience",
    what="An executor that is sent home gives back what it has not ended in time.",
    edits=[
        Edit(
            "executor.service",
            "            await asyncio.wait((stopping, finishing), return_when=asyncio.FIRST_COMPLETED)\n",
            "",
        )
    ],
    tests=(f"{_SHELL}::test_who_drains_takes_nothing_more_and_ends_what_it_has_however_long_that_takes",),
)

MUTANTS: Final = (
    GIVEN_AGAIN,
    GIVEN_UNCLAIMED,
    NOT_VOUCHED,
    CLAIM_OF_ANOTHER,
    ECHO_GIVEN,
    DONE_BEFORE_TOLD,
    NEVER_LATE,
    CANCELLED_UNTOLD,
    LEASE_FOR_ALL,
    TYPE_OF_ANOTHER,
    FETCHES_ANY,
    SECRETS_ALLOWED,
    GONE_IS_SERVED,
    FOREIGN_POOLS,
    SILENT_IS_THERE,
    DRAIN_GIVES_BACK,
)
