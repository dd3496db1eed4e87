"""Why an attempt of a run is not asked for yet: somebody paused it, or others of its org are before it."""

from collections.abc import Sequence

from msgspec import structs

from chassis.held import HeldEverywhere
from chassis.pauses import PausesFollowed
from chassis.ports import Tasks
from contracts.pauses import HeldLane
from contracts.runs import AttemptScheduled
from contracts.subjects import task
from orchestrator.run import Run
from orchestrator.waiting import WaitingFor


class HeldBack:
    """Asks TASKS only where something is held that may be it."""

    def __init__(self, held: HeldEverywhere, pauses: PausesFollowed, tasks: Tasks) -> None:
        self._held, self._pauses, self._tasks = held, pauses, tasks

    async def told(self, run: Run, waiting: Sequence[WaitingFor]) -> list[WaitingFor]:
        """The same, with the reason where an attempt is held. Raises `Away`."""
        lanes = self._held.of(run.org)
        reasons = {
            f"{step}/{attempt.attempt}": (attempt, reason)
            for step, attempt in run.attempts.items()
            if (reason := self._reason(run, attempt, lanes.get(attempt.pool)))
        }
        if not reasons:
            return list(waiting)
        subjects = {
            task(attempt.pool, run.org, run.id, attempt.step, attempt.attempt): name
            for name, (attempt, _) in reasons.items()
        }
        asked_for = {subjects[subject] for subject in await self._tasks.waiting(list(subjects))}
        return [
            structs.replace(each, held=reasons[each.name][1])
            if each.kind == "attempt" and each.name in reasons and each.name not in asked_for
            else each
            for each in waiting
        ]

    def _reason(self, run: Run, attempt: AttemptScheduled, lane: HeldLane | None) -> str:
        pause = self._pauses.stops(run.org, run.workflow, attempt.pool)
        if pause is not None:
            why = f": {pause.reason}" if pause.reason else ""
            return f"{pause.what} {pause.name} is paused by {pause.by} since {pause.since.isoformat()}{why}"
        if lane is not None and lane.waiting:
            return f"held: {lane.waiting} attempts of the org wait for room in pool {attempt.pool}"
        return ""
