"""Mutants of what keeps thousands that want something at one moment from asking for all of it at once."""

from typing import Final

from tests.mutants.mutant import Edit, Mutant

_HERDS: Final = "tests/orchestrator/test_herds.py"
_ROUNDS: Final = "tests/chassis/test_rounds.py"

ALL_ARE_READ_AT_ONCE: Final = Mutant(
    name="every history is read at once",
    what="Thousands of reads are under way after a start, and none is answered in its time.",
    edits=[Edit("orchestrator.tray", "        async with self._reading:\n", "        if True:\n")],
    tests=(f"{_HERDS}::test_so_many_histories_are_read_at_a_time",),
)
ALL_ARE_LOOKED_AFTER_AT_ONCE: Final = Mutant(
    name="every run is looked after at once",
    what="Thousands of questions about tasks are under way after a start.",
    edits=[
        Edit("orchestrator.service", "            async with self._insisting:\n", "            if True:\n")
    ],
    tests=(f"{_HERDS}::test_so_many_runs_are_looked_after_at_a_time",),
)
EACH_FETCHES_THE_PLAN: Final = Mutant(
    name="each run fetches the plan for itself",
    what="One plan is read and compiled a thousand times.",
    edits=[Edit("orchestrator.sources", "            async with turn:\n", "            if True:\n")],
    tests=(f"{_HERDS}::test_a_plan_that_all_of_them_need_is_fetched_once",),
)
ONE_CYCLE_FOR_ALL: Final = Mutant(
    name="a cycle takes everything",
    what="One append holds the commits of thousands of runs, and is for nothing when its answer is late.",
    edits=[
        Edit("orchestrator.tray", "        if len(self._ready) <= A_CYCLE:\n", "        if self._ready:\n")
    ],
    tests=(f"{_HERDS}::test_a_cycle_decides_on_so_many_and_the_next_one_on_the_others",),
)
INSISTS_ACROSS_TAKE_OVERS: Final = Mutant(
    name="what came before a take-over is insisted on",
    what="Every take-over has the same runs looked after once more beside what is under way.",
    edits=[Edit("orchestrator.service", "        self._tray.taken_over(number)\n", "")],
    tests=(f"{_HERDS}::test_nobody_insists_on_what_came_before_a_partition_was_taken_over",),
)
ROUND_THAT_HAD_BEGUN: Final = Mutant(
    name="a round that had begun serves who comes later",
    what="Who asks whether INBOX was read to its end hears of a reading from before he asked.",
    edits=[Edit("chassis.rounds", "        wanted = self._begun + 1\n", "        wanted = self._begun\n")],
    tests=(
        f"{_ROUNDS}::test_thousands_who_ask_at_once_cost_two_rounds",
        f"{_ROUNDS}::test_who_comes_after_a_round_has_begun_waits_for_the_next",
    ),
)
FAILED_ROUND_SUCCEEDS: Final = Mutant(
    name="a round that failed serves who waited for it",
    what="Who asks whether INBOX was read to its end hears that it was, although nobody could read it.",
    edits=[
        Edit("chassis.rounds", "            elif self._failure is not None:\n", "            elif False:\n")
    ],
    tests=(
        f"{_ROUNDS}::test_a_round_that_failed_has_failed_for_all_that_it_was_for_and_the_next_is_a_new_one",
    ),
)
MUTANTS: Final = (
    ALL_ARE_READ_AT_ONCE,
    ALL_ARE_LOOKED_AFTER_AT_ONCE,
    EACH_FETCHES_THE_PLAN,
    ONE_CYCLE_FOR_ALL,
    INSISTS_ACROSS_TAKE_OVERS,
    ROUND_THAT_HAD_BEGUN,
    FAILED_ROUND_SUCCEEDS,
)
