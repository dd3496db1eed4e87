"""Mutants of what no schedule runs: the real log, and the memory of runs that have left it. Their tests must notice."""

from typing import Final

from tests.mutants.mutant import Edit, Mutant

_LOG: Final = "chassis.jetstream.log"
_LOG_TESTS: Final = "tests/integration/test_jetstream_log.py"
_LAWS: Final = "tests/integration/test_jetstream_laws.py"
_PAST_TESTS: Final = (
    "tests/orchestrator/test_past.py",
    "tests/mutants/test_what_was_learnt_grows_old.py",
)


LAST_WRITER_WINS: Final = Mutant(
    name="a conflict of the real log is a success",
    what="A commit that nats-server refused for its place counts as stored.",
    edits=[
        Edit(
            _LOG,
            "            each.lost_race = each.sequence == 0\n",
            "            each.sequence = each.sequence or 1\n",
        )
    ],
    tests=(f"{_LAWS}::test_of_two_writers_exactly_one_wins_each_place",),
)
OWN_COMMIT_UNKNOWN: Final = Mutant(
    name="our own commit is another's",
    what="A commit that was stored although its answer was lost is taken for a conflict.",
    edits=[
        Edit(
            _LOG,
            "            elif message.body == each.proposal.body:\n",
            '            elif message.body == b"":\n',
        )
    ],
    tests=(f"{_LOG_TESTS}::test_what_was_stored_without_an_answer_is_found_and_not_doubled",),
)
UNCLEAR_IS_REFUSED: Final = Mutant(
    name="an answer that was lost is a refusal",
    what="A commit of which nobody knows is told as one that was not stored.",
    edits=[
        Edit(
            _LOG,
            "        for each in proposals:\n            each.clear = False\n",
            "        for each in proposals:\n            each.clear = True\n",
        )
    ],
    tests=(f"{_LOG_TESTS}::test_who_cannot_find_out_is_told_so",),
)
STAGED_IS_A_DEFECT: Final = Mutant(
    name="what waits for its majority is a defect",
    what="A service ends because it said something again that a cluster was about to store.",
    edits=[
        Edit(
            "chassis.jetstream.wire",
            "    if error.err_code == _STAGED:\n",
            "    if error.code == _STAGED:\n",
        )
    ],
    tests=(
        "tests/integration/test_jetstream_cluster.py"
        "::test_what_is_sent_again_while_it_waits_for_its_majority_is_stored_once",
    ),
)
PAST_NOT_ASKED: Final = Mutant(
    name="the archive is not asked before a run begins",
    what="A run of which the log knows nothing any more is started a second time.",
    edits=[
        Edit(
            "orchestrator.past",
            "            if not may_be_past(start, self._horizon, now.timestamp()):\n",
            "            if start.run:\n",
        )
    ],
    tests=_PAST_TESTS,
)
LEARNT_FOR_EVER: Final = Mutant(
    name="what the archive said once counts for ever",
    what="A run that has left the log since is started a second time.",
    edits=[
        Edit(
            "orchestrator.past",
            "        if learnt is None or self._clock.seconds() - learnt.at > VALID_SECONDS:\n",
            "        if learnt is None:\n",
        )
    ],
    tests=_PAST_TESTS,
)
OLD_DECISIONS_STORED: Final = Mutant(
    name="an old decision is stored",
    what="A first commit that was decided on before its run's history left the log starts it a second time.",
    edits=[
        Edit(
            "orchestrator.record",
            "            if self._clock.seconds() - began > PATIENCE_SECONDS:\n",
            "            if self._clock.seconds() - began > PATIENCE_SECONDS * 1e9:\n",
        )
    ],
    tests=_PAST_TESTS,
)
MARK_NOT_WAITED_FOR: Final = Mutant(
    name="tombstones leave as soon as the mark is set",
    what="A tombstone leaves before everybody knows that the archive must be asked.",
    edits=[
        Edit(
            "projections.archiver",
            "            if self._is_known_to_all(tombstones):\n",
            "            if tombstones.most:\n",
        )
    ],
    tests=("tests/projections/test_archiver.py",),
)

MUTANTS: Final = (
    LAST_WRITER_WINS,
    OWN_COMMIT_UNKNOWN,
    UNCLEAR_IS_REFUSED,
    STAGED_IS_A_DEFECT,
    PAST_NOT_ASKED,
    LEARNT_FOR_EVER,
    OLD_DECISIONS_STORED,
    MARK_NOT_WAITED_FOR,
)
