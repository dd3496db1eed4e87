"""Mutants of what nodes say: no schedule of the simulation listens, so their tests must notice."""

from typing import Final

from tests.mutants.mutant import Edit, Mutant

_SAID: Final = "tests/executor/test_logs.py"
_API: Final = "tests/gateway/test_logs_api.py"
_SEARCH: Final = "tests/integration/test_log_search.py"

SEAM_DOUBLES: Final = Mutant(
    name="a line is told again behind the seam",
    what="Whoever reads on from a line is told that line once more.",
    edits=[Edit("gateway.logs.reading", "if place > after and", "if place >= after and")],
    tests=(f"{_API}::test_lines_are_told_live_those_that_are_there_first_each_once",),
)
SEAM_DROPS: Final = Mutant(
    name="the rest of a record is skipped",
    what="Whoever reads on from the middle of a record misses the lines behind.",
    edits=[Edit("gateway.logs.lines", "self.sequence + (self.index == LAST)", "self.sequence + 1")],
    tests=(f"{_API}::test_lines_are_told_live_those_that_are_there_first_each_once",),
)
EXPIRED_SILENTLY: Final = Mutant(
    name="expired lines are not told",
    what="A run whose first lines have left looks as if it had never said them.",
    edits=[Edit("gateway.logs.reading", "began is not None and began >= kept.since", "began != kept.since")],
    tests=(f"{_API}::test_what_is_missing_and_what_has_expired_is_told",),
)
ATTEMPT_UNBOUNDED: Final = Mutant(
    name="an attempt says all it likes",
    what="The bytes of an attempt's lines are not counted.",
    edits=[Edit("executor.speaking", "        self._bytes += size\n", "")],
    tests=(f"{_SAID}::test_what_an_attempt_may_say_is_bounded_and_what_is_missing_is_counted",),
)
CALL_FORGOTTEN: Final = Mutant(
    name="the only call is forgotten",
    what="A call that went well is told of no attempt, also when it fails.",
    edits=[Edit("executor.speaking", "            if self._only_call:\n", "            if False:\n")],
    tests=(f"{_SAID}::test_a_call_that_went_well_is_told_of_an_attempt_that_is_slow_or_fails",),
)
RUN_UNBOUNDED: Final = Mutant(
    name="a run says all it likes",
    what="Every attempt of a run begins with an allowance of its own.",
    edits=[
        Edit(
            "executor.allowances",
            "        if found is None:\n",
            "        if found is None or found is not None:\n",
        )
    ],
    tests=(f"{_SAID}::test_a_run_of_many_attempts_is_bounded_too_and_what_is_missing_is_counted",),
)
LOST_SILENTLY: Final = Mutant(
    name="lines that found no room are forgotten",
    what="Nobody is told that lines are missing which the disk had no room for.",
    edits=[Edit("executor.journal", "        attempt.unstored(record)\n", "")],
    tests=(f"{_SAID}::test_lines_that_could_not_be_stored_are_counted_by_the_next_that_can_be",),
)
FORGED_ORG: Final = Mutant(
    name="a record is believed whose it is",
    what="An org's record appears in another org's search.",
    edits=[
        Edit("projections.log_records", "if (record.org, record.run) != (org, run):", "if not record.org:")
    ],
    tests=(f"{_SEARCH}::test_another_orgs_lines_are_not_there",),
)
LOST_END: Final = Mutant(
    name="a stream that lost its end is waited for",
    what="Lines that take the numbers of lost ones are not found by any search.",
    edits=[Edit("projections.log_records", "await begin(connection, _FOLLOWED, facts, 0)", "pass")],
    tests=(f"{_SEARCH}::test_a_stream_that_lost_its_end_is_read_again_and_nothing_is_doubled",),
)

MUTANTS: Final = (
    SEAM_DOUBLES,
    SEAM_DROPS,
    EXPIRED_SILENTLY,
    ATTEMPT_UNBOUNDED,
    CALL_FORGOTTEN,
    RUN_UNBOUNDED,
    LOST_SILENTLY,
    FORGED_ORG,
    LOST_END,
)
