"""RUNS as a cycle writes it: one append for all of its commits, each under its run's trace, until it is known what became of them."""

import asyncio
from collections.abc import Sequence
from contextlib import ExitStack
from typing import Final

import structlog

from chassis.clock import Clock
from chassis.ports import Ambiguous, Away, Log, Proposal
from chassis.telemetry import Tracer, trace_id
from contracts.subjects import run as run_subject
from orchestrator.commits import proposal
from orchestrator.judge import Proposed
from orchestrator.memory import Known

log = structlog.get_logger()

PATIENCE_SECONDS: Final = 300.0
"""How long a decision waits to be stored before it is made anew."""
_PAUSE: Final = 0.2


class Record:
    """The log of all runs, and what this process counts of its appends."""

    def __init__(self, history: Log, clock: Clock, tracer: Tracer, counts: dict[str, int]) -> None:
        self._log, self._clock, self._tracer, self._counts = history, clock, tracer, counts

    async def append(
        self, proposals: Sequence[Proposed], began: float
    ) -> tuple[Sequence[int | None], list[str]]:
        """Where each commit lies (None: another was first), and its trace.

        Raises `Ambiguous` when nobody knows, or when it was decided too long ago.
        """
        with ExitStack() as spans:
            traces = [self._traced(proposed, spans) for proposed in proposals]
            entries = [
                proposal(
                    p.sealed, p.before.sequence, p.after.trace, self._log.epoch, p.after.segment.sequence
                )
                for p in proposals
                if p.sealed is not None
            ]
            return await self._placed(entries, began), traces

    async def is_last(self, known: Known) -> bool:
        """Whether what we remember of a run is all that the log has of it."""
        subject = run_subject(known.run.org, known.run.id)
        last = (await self._log.last([subject])).get(subject)
        return (last.sequence if last is not None else 0) == known.sequence

    async def _placed(self, entries: Sequence[Proposal], began: float) -> Sequence[int | None]:
        while True:
            if self._clock.seconds() - began > PATIENCE_SECONDS:
                # A first commit expects nothing to be there. That a run never was, nobody knows for ever (chassis.past).
                raise Ambiguous("decided too long ago")
            try:
                placed = await self._log.append(entries)
            except Ambiguous:
                raise
            except Away as away:
                self._counts["refused_appends"] += 1
                log.warning("append.refused", runs=len(entries), reason=str(away))
                await asyncio.sleep(_PAUSE)
            else:
                self._counts["commits"] += len(entries)
                return placed

    def _traced(self, proposed: Proposed, spans: ExitStack) -> str:
        """What one commit is in its run's trace: caused by what was told, and the cause of what is emitted by it."""
        told, ours = proposed.cause.trace if proposed.cause else "", proposed.before.trace
        # A wish that came by another request belongs to that request's trace; the run stays in its own.
        same = told == ours or (told and trace_id(told) == trace_id(ours or told))
        parent = told if same else ours
        if not self._tracer.listens:
            return parent
        run = proposed.after.run
        return spans.enter_context(
            self._tracer.span("commit", parent, run=run.id, version=proposed.after.version)
        )
