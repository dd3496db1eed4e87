"""What goes out behind a commit: attempts, children, an end for what shall end; and all of it again, when somebody looks."""

import asyncio
from collections.abc import Sequence

from contracts.runs import AttemptScheduled, WaitOpened
from orchestrator.emission import Emission
from orchestrator.family import Family
from orchestrator.holding import Holding
from orchestrator.judge import Proposed
from orchestrator.letting_go import LettingGo
from orchestrator.memory import Known
from orchestrator.run import outstanding
from orchestrator.sources import Programs


class Outbound:
    """Says it to whomever it concerns. `family`: None where no run starts another one."""

    def __init__(
        self, *, emission: Emission, letting_go: LettingGo, holding: Holding, family: Family | None
    ) -> None:
        self._emission = emission
        self._letting_go = letting_go
        self._holding = holding
        self._family = family

    def after(
        self, proposed: Proposed, known: Known, tasks: asyncio.TaskGroup
    ) -> list[tuple[Known, WaitOpened]]:
        """What the commit asks of the world, but for the wake-ups: those are waited for."""
        self._emission.settled(proposed.before.run, known.run)
        kinds = set(map(type, proposed.events))
        if AttemptScheduled in kinds:
            scheduled = [event for event in proposed.events if isinstance(event, AttemptScheduled)]
            open_ = outstanding(known.run).attempts
            still_open = [attempt for attempt in scheduled if attempt in open_]
            self._emission.attempts(known, still_open, proposed.programs)
        if not known.run.acts:
            self._letting_go.begin(known, tasks)
        self._holding.stir()
        if self._family is not None:
            self._family.after(proposed.before, known, proposed.events, tasks)
        if WaitOpened not in kinds:
            return []
        opened = [event for event in proposed.events if isinstance(event, WaitOpened)]
        waits = outstanding(known.run).waits
        return [(known, wait) for wait in opened if wait in waits]

    async def again(
        self,
        known: Known,
        missing: Sequence[AttemptScheduled],
        programs: Programs | None,
        tasks: asyncio.TaskGroup,
    ) -> None:
        """What the run's state asks of the world. `missing`: the attempts of which nobody holds a task. Raises `Away`."""
        self._emission.attempts(known, missing, programs)
        self._holding.stir()
        if known.run.phase == "stopping":
            self._letting_go.begin(known, tasks)
        if self._family is not None:
            self._family.again(known, tasks)
        await self._emission.wakes([(known, wait) for wait in outstanding(known.run).waits])
