"""Two mechanisms at once, of which each may stand in for the other.

Not here: compensation twice (one mechanism alone sees to it: tests/mutants/of_undos.py); republish against catch-up (nothing of ours reads what is
republished: the live tail follows the log, its two sides are mutants of their own); Nats-Msg-Id against the derived run
id (every message of ours has an id of its own: only the run's own history tells a duplicate); max_ack_pending against
optimistic concurrency becomes cycles side by side against optimistic concurrency. Turns against the room of a commit: a
commit that nobody could read is refused as it is made, so what is left is a run that waits for a person; each of the
two has a test of its own.
"""

from typing import Final

from tests.mutants import of_containers as containers
from tests.mutants import of_decisions as decisions
from tests.mutants import of_executor as executor
from tests.mutants import of_ingress as ingress
from tests.mutants import of_orchestrator as orchestrator
from tests.mutants import of_projections as projections
from tests.mutants.mutant import Edit, Mutant, both

SIDE_BY_SIDE: Final = Mutant(
    name="cycles side by side",
    what="A second cycle begins while one is under way. Alone it costs conflicts and nothing else.",
    edits=[
        Edit(
            "orchestrator.service",
            "        if self._tray.has_ready and not self._cycling:\n            self._cycling = True\n",
            "        if self._tray.has_ready:\n            self._cycling = True\n",
        )
    ],
)
KEPT_BEFORE_STORED: Final = Mutant(
    name="rows are remembered before they are stored",
    what="What could not be stored is remembered. Alone it is forgotten with every failure.",
    edits=[
        Edit(
            "projections.run_tables",
            "        await self._models.store(changes, step)\n        self._keep(changes)\n",
            "        self._keep(changes)\n        await self._models.store(changes, step)\n",
        )
    ],
)
BELIEVED_BY_STATE: Final = Mutant(
    name="the state believes every outcome",
    what="An outcome of an attempt that is closed changes the state. Alone nobody records one.",
    edits=[
        Edit(
            "orchestrator.evolution",
            "    return (scheduled is not None and scheduled.attempt == attempt) or run.doubts.get(path) == attempt",
            "    return True",
        )
    ],
)

MUTANTS: Final = (
    both(
        "sweeper x re-emission",
        projections.NO_SWEEPER,
        orchestrator.NO_RE_EMISSION,
        "Nobody looks, and whoever looks asks for nothing: a lost task is lost.",
    ),
    both(
        "sweeper x early answer",
        projections.NO_SWEEPER,
        orchestrator.EARLY_ANSWER,
        "What was answered before it was stored is lost, and nobody looks for what follows.",
    ),
    both(
        "derived run id x look-up",
        ingress.FRESH_RUN_ID,
        ingress.NOT_LOOKED_UP,
        "Neither the id nor a look tells that a delivery has come before.",
    ),
    both(
        "optimistic concurrency x one cycle at a time",
        orchestrator.NO_OCC,
        SIDE_BY_SIDE,
        "Nothing stands between two decisions about one run.",
    ),
    both(
        "overdue waits x wake-ups armed again",
        decisions.NO_OVERDUE_WAITS,
        orchestrator.NO_RE_ARMING,
        "A look neither ends a wait that is overdue nor has its run woken.",
    ),
    both(
        "wake-ups x overdue waits swept",
        orchestrator.NEVER_ARMED,
        projections.WAITS_NOT_SWEPT,
        "Nobody wakes a run, and nobody looks at one that should have been woken.",
    ),
    both(
        "known results x what the state believes",
        decisions.RESULT_TWICE,
        BELIEVED_BY_STATE,
        "An outcome that comes again is recorded and decided on again.",
    ),
    both(
        "remembered before stored x remembered over a failure",
        KEPT_BEFORE_STORED,
        projections.NEVER_FORGETS,
        "Rows that could not be stored are what later rows are made of.",
    ),
    both(
        "position outside of the transaction x seen again",
        projections.POSITION_APART,
        projections.SEEN_AGAIN_COUNTS,
        "What was stored before its position is stored again, and counts again.",
    ),
    both(
        "looking up x claims",
        executor.ECHO_UNCHECKED,
        executor.ANY_CLAIM_IS_OURS,
        "An attempt that is over is made again, by whoever its task is brought to.",
    ),
    both(
        "take-over x confirmation",
        orchestrator.REMEMBERS_AT_TAKE_OVER,
        orchestrator.NOTHING_UNCONFIRMED,
        "What was known before somebody else owned the run is what messages are answered by.",
        stage="a slow inbox",
    ),
    both(
        "closed items begin x closed items try again",
        containers.CLOSED_BEGINS,
        containers.CLOSED_TRIES_AGAIN,
        "In an item that fails, everything goes on.",
        stage="maps and loops",
    ),
    both(
        "closed items x their neighbours",
        containers.CLOSED_BEGINS,
        containers.NEIGHBOURS_GO_ON,
        "Where an item fails, steps begin in it and beside it.",
        stage="maps and loops",
    ),
    both(
        "the drain x attempts under way",
        containers.NO_DRAIN,
        containers.DONE_TOO_EARLY,
        "Neither an item nor a map waits for what is under way in it.",
        stage="maps and loops",
    ),
    both(
        "a map from the start x its steps",
        containers.FROM_THE_START,
        containers.STEPS_REMEMBERED,
        "What is over begins again, and finds that it was done.",
        stage="maps and loops",
    ),
)
