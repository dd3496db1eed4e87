"""What a committed decision asks of the world: tasks to do, moments to be woken at, attempts to let go.

All of it can be derived from the state, so losing it loses nothing: it is emitted again when somebody looks.
"""

from collections.abc import Collection, Sequence
from datetime import datetime, timedelta
from typing import Final

import structlog
from msgspec import structs

from chassis.clock import Clock
from chassis.ports import Away, Inbox, Lying, Ownership, Signals, Tasks
from contracts.codec import encode, encode_bundle
from contracts.messages import CancelAttempts, Look, Task, Wake
from contracts.runs import AttemptScheduled, WaitOpened
from contracts.subjects import cancel, partition, task
from orchestrator.kinship import cause_of_children
from orchestrator.lanes import Key, Lanes, Wanted
from orchestrator.letters import Letter
from orchestrator.memory import Known
from orchestrator.passing import rank_of
from orchestrator.run import Run, outstanding
from orchestrator.sources import Programs

log = structlog.get_logger()

ON_ITS_WAY: Final = timedelta(milliseconds=50)
"""A wake-up that came too early was under way for so long."""


class Emission:
    """Sends tasks, wake-ups and cancellations."""

    def __init__(
        self,
        *,
        tasks: Tasks,
        inbox: Inbox,
        signals: Signals,
        ownership: Ownership,
        clock: Clock,
        lanes: Lanes | None = None,
    ) -> None:
        """`lanes`: decide which attempts are asked for at once."""
        self.lanes = lanes or Lanes()
        self._tasks = tasks
        self._inbox = inbox
        self._signals = signals
        self._ownership = ownership
        self._clock = clock

    def attempts(self, known: Known, attempts: Sequence[AttemptScheduled], programs: Programs | None) -> None:
        """Ask for these attempts, without waiting; those whose turn has not come are held."""
        run, now = known.run, self._clock.seconds()
        flow = programs.graph.plan.flow if programs is not None else None
        rank = rank_of(run, flow)
        admitted = [
            attempt
            for attempt in attempts
            if self.lanes.admit(
                Wanted(
                    org=run.org,
                    run=run.id,
                    key=(attempt.step, attempt.attempt),
                    pool=attempt.pool,
                    workflow=run.workflow,
                    rank=rank,
                ),
                now,
            )
        ]
        self.ask(known, admitted, programs)

    def settled(self, before: Run, after: Run) -> None:
        """A commit is there: what it ended makes room for others."""
        if before.attempts:
            self.lanes.keep_only(after.id, _keys(after), self._clock.seconds())

    def learnt(self, known: Known) -> None:
        """A history was read: others may have ended what we have asked for."""
        self.lanes.keep_only(known.run.id, _keys(known.run), self._clock.seconds())

    def ask(self, known: Known, attempts: Sequence[AttemptScheduled], programs: Programs | None) -> None:
        """Send the tasks of these attempts, without waiting."""
        run = known.run
        nodes = programs.graph.nodes if programs is not None else {}
        seals = programs is not None and programs.graph.seals
        brings = cause_of_children(run)
        for attempt in attempts:
            body = encode(
                Task(
                    org=run.org,
                    run=run.id,
                    step=attempt.step,
                    node=attempt.node,
                    node_type=attempt.node_type,
                    attempt=attempt.attempt,
                    key=attempt.key,
                    repeat=attempt.repeat,
                    timeout_s=attempt.timeout_s,
                    config=attempt.config,
                    secrets=nodes[attempt.node].secrets if attempt.node in nodes else (),
                    scheduled_at=self._clock.now().timestamp(),
                    key_id=known.key_id,
                    trace=known.trace,
                    plan=run.plan,
                    sensitive=nodes[attempt.node].sensitive if attempt.node in nodes else (),
                    seals=seals,
                    depth=brings.depth,
                    chain=brings.chain,
                )
            )
            self._tasks.emit(attempt.pool, _subject(known, attempt), body)

    async def wakes(self, opened: Sequence[tuple[Known, WaitOpened]]) -> None:
        """Have the runs woken when their waits are due. Returns when the wake-ups are on disk."""
        wakes = [(_wake(known, wait), wait.due) for known, wait in opened if wait.due is not None]
        if wakes:
            await self._inbox.wake_at(wakes)

    def let_go(self, known: Known) -> CancelAttempts | None:
        """Tell every executor that the run's open attempts shall end. What was told; None where there are none."""
        run = known.run
        attempts = tuple((attempt.step, attempt.attempt) for attempt in outstanding(run).attempts)
        if not attempts:
            return None
        message = CancelAttempts(org=run.org, run=run.id, attempts=attempts)
        self.tell(message)
        return message

    def asked_for(self, known: Known) -> set[str]:
        """The subjects of the tasks that ask for the run's open attempts."""
        return {_subject(known, attempt) for attempt in outstanding(known.run).attempts}

    async def forget(self, subjects: Collection[str]) -> None:
        """Take out the tasks of attempts that have ended: in a pool that nobody serves they would lie there for ever."""
        try:
            left = await self._tasks.waiting(sorted(subjects))
            await self._tasks.forget(sorted(left))
        except Away as away:
            # Whoever serves the pool one day finds that their attempts are over.
            log.warning("tasks.left", reason=str(away))
            return
        if left:
            log.info("tasks.forgotten", tasks=len(left))

    def tell(self, message: CancelAttempts) -> None:
        """Stored nowhere: whoever is not connected at this moment does not hear it."""
        self._signals.publish(cancel(message.org, message.run), encode(message))

    async def lying(self, pool: str, org: str = "") -> Lying:
        """How many tasks of a pool lie there, whoever asked for them. `org`: whose alone the pool is."""
        return await self._tasks.lying(pool, org)

    async def have_looked_at(self, number: int, runs: Sequence[tuple[str, str]]) -> None:
        """Have the owner of a partition look at these runs of it. Returns when that is on disk."""
        looks = [encode(Look(org=org, run=run)) for org, run in runs]
        await self._inbox.put(number, encode_bundle(looks))

    async def missing(self, known: Known) -> list[AttemptScheduled]:
        """Open attempts that nobody has a task for and that we do not hold back, once everything that was said about the run has been heard.

        TASKS is asked first: a task that is done has left it after its outcome came into INBOX or RUNS, so who reads
        INBOX to its end now cannot miss it. The caller must see to what was heard, and look at RUNS last.
        """
        subjects = {
            _subject(known, attempt): attempt
            for attempt in outstanding(known.run).attempts
            if not self.lanes.is_held(known.run.id, (attempt.step, attempt.attempt))
        }
        if not subjects:
            return []
        waiting = await self._tasks.waiting(list(subjects))
        missing = [attempt for subject, attempt in subjects.items() if subject not in waiting]
        if missing:
            await self._ownership.caught_up(partition(known.run.id))
        return missing


def woken_early(
    known: Known, letters: Sequence[Letter], now: datetime | None
) -> list[tuple[Known, WaitOpened]]:
    """Waits whose wake-up came before their time by our clock: to be armed again for what is left of it.

    The server's clock said that the time had come, so what is left is counted from there on: else it would wake us
    again at once, as often as it can, until our clock gets there too.
    """
    if known.run.parked is not None or now is None:
        return []
    named = {letter.message.wait for letter in letters if isinstance(letter.message, Wake)}
    if not named:
        return []
    at = max(now, known.at or now)
    return [
        (known, structs.replace(wait, due=due + max(timedelta(), due - at) + ON_ITS_WAY))
        for wait in outstanding(known.run).waits
        if wait.wait in named and (due := wait.due) is not None
    ]


def _keys(run: Run) -> set[Key]:
    """The attempts that are open."""
    return {(step, attempt.attempt) for step, attempt in run.attempts.items()} if run.active else set()


def _subject(known: Known, attempt: AttemptScheduled) -> str:
    return task(attempt.pool, known.run.org, known.run.id, attempt.step, attempt.attempt)


def _wake(known: Known, wait: WaitOpened) -> Wake:
    return Wake(org=known.run.org, run=known.run.id, wait=wait.wait, trace=known.trace)
