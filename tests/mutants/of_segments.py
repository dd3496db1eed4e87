"""Mutants of the seams of long histories: what they say, who goes on from them, and what leaves the log because of them."""

from typing import Final

from tests.mutants.mutant import Edit, Mutant

_JUDGE: Final = "orchestrator.judge"
_SEGMENTS: Final = "orchestrator.segments"
_ARCHIVER: Final = "projections.archiver"

STATE_OF_ANOTHER_VERSION: Final = Mutant(
    name="the state of a seam is not of its version",
    what="A segment begins with the state behind its first commit: its facts count twice for whoever goes on from it.",
    edits=[
        Edit(
            _JUDGE,
            "        events = [*self._seam(known), *events]\n",
            "        events = [*self._seam(structs.replace(known, run=run)), *events]\n",
        )
    ],
)
CHAIN_ENDS_AT_A_SEAM: Final = Mutant(
    name="the chain is not carried over a seam",
    what="The first commit of a segment names no commit before it, as if the history began there.",
    edits=[
        Edit(
            _JUDGE,
            "        prev_hash=before.hash,\n",
            '        prev_hash="" if "RunContinued" in str(proposed.events[:1]) else before.hash,\n',
        )
    ],
)
NEVER_CUT: Final = Mutant(
    name="no segment ever ends",
    what="Whoever takes up a long run reads all of it.",
    edits=[
        Edit(_SEGMENTS, "        return long and segment.size >= segment.state\n", "        return False\n")
    ],
)
STATE_IS_NOT_WHOLE: Final = Mutant(
    name="a state without what the run waits for",
    what="Whoever goes on from a seam does not know the waits that were open.",
    edits=[
        Edit(
            _SEGMENTS,
            "                if given != default:\n",
            '                if given != default and name != "waits":\n',
        )
    ],
)
SEAM_IS_A_TOMBSTONE: Final = Mutant(
    name="a seam is taken for a tombstone",
    what="A history that begins at a seam is gone on with as if nothing were known of it.",
    edits=[
        Edit(
            "orchestrator.memory",
            "Run.new(org, run_id) if seam is None else seam)\n",
            "Run.new(org, run_id))\n",
        )
    ],
)
ANY_STATE_WILL_DO: Final = Mutant(
    name="a state that is not understood is believed",
    what="What another release remembers of a run, and this one has no word for, is lost.",
    edits=[
        Edit(_SEGMENTS, "    return run if known and snapshot(run) == state else None\n", "    return run\n")
    ],
    tests=["tests/orchestrator/test_segments.py"],
)
SEAM_IS_NOT_JUDGED: Final = Mutant(
    name="nobody holds a seam against the events",
    what="A seam that says something else than what is before it is gone on from.",
    edits=[
        Edit(
            "orchestrator.history",
            "    if recomputed is None or not _same(seam, recomputed):\n",
            "    if recomputed is None:\n",
        )
    ],
    tests=["tests/orchestrator/test_segments.py"],
)
HINT_IS_BELIEVED: Final = Mutant(
    name="a hint is taken for the seam",
    what="Where a header names another commit than a seam, the run goes on without its beginning.",
    edits=[
        Edit("orchestrator.sources", "        if place and seam is None:\n", "        if place < 0:\n"),
    ],
    tests=["tests/orchestrator/test_segments.py"],
)
NOT_ARCHIVED: Final = Mutant(
    name="a segment leaves before it is archived",
    what="What is before a seam leaves the log although the archive has not all of it.",
    edits=[
        Edit(
            _ARCHIVER,
            "                if not segment.whole or stays or key in broken:\n",
            "                if stays:\n",
        )
    ],
    tests=["tests/projections/test_archiver.py"],
)
LEAVES_WITH_ITS_SEAM: Final = Mutant(
    name="a seam leaves with what is before it",
    what="The log lacks the commit from which everybody goes on.",
    edits=[
        Edit(
            _ARCHIVER,
            "subject, before=segment.sequence)\n",
            "subject, before=segment.sequence + 1)\n",
        )
    ],
    tests=["tests/projections/test_archiver.py"],
)
UNDER_WAY_IS_FORGOTTEN: Final = Mutant(
    name="an executor forgets what was under way before a seam",
    what="An attempt that was scheduled in an earlier segment counts as over, and is never made.",
    edits=[
        Edit(
            "chassis.standing",
            "        ours = event.attempts.get(task.step) == task.attempt\n",
            "        ours = False\n",
        )
    ],
    tests=["tests/chassis/test_standing.py"],
)

MUTANTS: Final = (
    STATE_OF_ANOTHER_VERSION,
    CHAIN_ENDS_AT_A_SEAM,
    NEVER_CUT,
    STATE_IS_NOT_WHOLE,
    SEAM_IS_A_TOMBSTONE,
    ANY_STATE_WILL_DO,
    SEAM_IS_NOT_JUDGED,
    HINT_IS_BELIEVED,
    NOT_ARCHIVED,
    LEAVES_WITH_ITS_SEAM,
    UNDER_WAY_IS_FORGOTTEN,
)
