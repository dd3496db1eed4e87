"""Mutants of the projections: read models, sweeper, archive."""

from typing import Final

from tests.mutants.mutant import Edit, Mutant

_TABLES: Final = "projections.run_tables"
_SWEEPER: Final = "projections.sweeper"
_ARCHIVER: Final = "projections.archiver"
_EVENTS: Final = "projections.events"

POSITION_APART: Final = Mutant(
    name="the position outside of the transaction",
    what="Rows are stored first and the position after them: what was stored between is counted twice.",
    edits=[
        Edit(
            _TABLES,
            "        await self._models.store(changes, step)\n        self._keep(changes)\n",
            "        nowhere = Step(\n"
            "            before=step.before, epoch=step.before.epoch, sequence=step.before.sequence, time=step.time\n"
            "        )\n"
            "        await self._models.store(changes, nowhere)\n"
            "        await self._models.store(Changes(), step)\n"
            "        self._keep(changes)\n",
        )
    ],
    stage="late stores",
)
NEVER_FORGETS: Final = Mutant(
    name="rows are remembered over a failure",
    what="After a failed transaction rows are changed by what is remembered, not by what is stored.",
    edits=[
        Edit(
            "projections.projector",
            "                self._projection.forget()\n                self._progress.failures += 1\n",
            "                self._progress.failures += 1\n",
        )
    ],
)
SEEN_AGAIN_COUNTS: Final = Mutant(
    name="a commit that is seen again counts again",
    what="A message that was projected once is projected twice.",
    edits=[
        Edit(
            "projections.runs",
            "        if arrived.version <= run.head_version:\n            self.changes.seen_again += 1\n            return\n",
            "",
        )
    ],
    tests=["tests/projections/test_runs.py"],
)
NO_SWEEPER: Final = Mutant(
    name="nobody sweeps",
    what="What got lost on the way is missing for ever.",
    edits=[
        Edit(_SWEEPER, "            await self._look_at(wanted)\n", "            await self._look_at([])\n")
    ],
)
SWEEPS_ONCE: Final = Mutant(
    name="a run is looked at once",
    what="A look that got lost is not sent again.",
    edits=[
        Edit(_SWEEPER, "        elif now < before.again:\n", "        elif now < before.again or before:\n")
    ],
    stage="lost tasks",
)
STILL_IS_FINE: Final = Mutant(
    name="a still run is not swept",
    what="Only waits that are overdue are looked at; an attempt whose task is lost lasts for ever.",
    edits=[Edit(_EVENTS, "        moments.append(_after(run.last_time, STILL))\n", "        pass\n")],
)
NO_DEADLINES: Final = Mutant(
    name="deadlines are not swept",
    what="A run whose deadline has passed is looked at only when something else is due.",
    edits=[
        Edit(
            _EVENTS,
            "for each in (run.next_due, deadline) if each is not None]",
            "for each in (run.next_due,) if each is not None]",
        )
    ],
    stage="in a hurry",
)
AHEAD_COUNTS: Final = Mutant(
    name="a look ahead of its time counts as one in time",
    what="A run whose deadline passes soon after the sweeper has begun is looked at half a minute late.",
    edits=[
        Edit(
            "projections.sweeper",
            "before.sequence != straggler.sequence or before.ahead > ahead:",
            "before.sequence != straggler.sequence:",
        )
    ],
    tests=["tests/projections/test_sweeper.py"],
)
WAITS_NOT_SWEPT: Final = Mutant(
    name="overdue waits are not swept",
    what="A run whose wake-up was lost waits for ever.",
    edits=[
        Edit(
            _EVENTS,
            "for each in (run.next_due, deadline) if each is not None]",
            "for each in (deadline,) if each is not None]",
        )
    ],
    stage="lost wake-ups",
)
TOMBSTONE_PURGED: Final = Mutant(
    name="the tombstone leaves as well",
    what="A delivery that comes again after its run has left the log starts it a second time.",
    edits=[Edit(_ARCHIVER, "last.subject, before=last.sequence)", "last.subject, before=last.sequence + 1)")],
)
HASH_UNCOMPARED: Final = Mutant(
    name="a run that went on is purged",
    what="What came after the end that the archive knows leaves the log and lies nowhere.",
    edits=[
        Edit(
            _ARCHIVER,
            "hashlib.sha256(last.body).digest() ",
            "run.hash ",
        )
    ],
    stage="early retirement",
)
NOT_WHOLE_IS_PURGED: Final = Mutant(
    name="a run that the archive has not whole is purged",
    what="Commits that the archive lacks leave the log.",
    edits=[
        Edit(_ARCHIVER, "for run in safe if run.whole]", "for run in safe]"),
    ],
    tests=["tests/projections/test_archiver.py"],
)
NOT_FLUSHED: Final = Mutant(
    name="purged before the archive is on disk",
    what="A power cut of the archive's disk loses what has left the log.",
    edits=[Edit(_ARCHIVER, "        await self._shelf.flush()\n", "")],
    tests=["tests/projections/test_archiver.py"],
)

SEEN_IS_ENOUGH: Final = Mutant(
    name="what was seen in the archive is not looked at again",
    what="What Postgres forgot in a crash after it was seen leaves the log all the same.",
    edits=[
        Edit(
            _ARCHIVER,
            "        return [run for run in seen if run in stands]\n",
            "        return [run for run in seen if run or run in stands]\n",
        )
    ],
    tests=["tests/projections/test_archiver.py"],
)

MUTANTS: Final = (
    POSITION_APART,
    NEVER_FORGETS,
    SEEN_AGAIN_COUNTS,
    NO_SWEEPER,
    SWEEPS_ONCE,
    STILL_IS_FINE,
    NO_DEADLINES,
    AHEAD_COUNTS,
    WAITS_NOT_SWEPT,
    TOMBSTONE_PURGED,
    HASH_UNCOMPARED,
    NOT_WHOLE_IS_PURGED,
    NOT_FLUSHED,
    SEEN_IS_ENOUGH,
)
