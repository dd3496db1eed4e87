"""The shell around the run state machine: take what arrived, load, fold, decide, append, emit, answer.

One cycle is under way at a time and takes everything that is ready: natural batching, no timer. A run that is not ready
(its history is not loaded, its plan or a value is not here) gets ready beside the cycles and delays nobody.

Rules that hold here:
  * a message says when to look, the state says what to do; redelivery is harmless;
  * the expected sequence of the append is the fence; what is remembered is only a convenience;
  * an answer means that the commit is in RUNS and that what it asks for was emitted;
  * after an ambiguous failure everything is forgotten and taken over anew.
"""

import asyncio
from collections import defaultdict
from collections.abc import Awaitable, Callable, Sequence
from datetime import datetime
from functools import partial
from typing import Final

import structlog
from msgspec import structs

from chassis.clock import Clock
from chassis.crash import crash
from chassis.ports import Ambiguous, Arrival, Away, Letters, Log, Ownership
from chassis.telemetry import Tracer
from contracts.codec import Malformed, decode_bundle
from contracts.errors import Failure
from contracts.messages import (
    Answer,
    Look,
    ScheduleLook,
    StartRun,
    ToGate,
)
from contracts.runs import WaitOpened
from orchestrator.answering import Answering
from orchestrator.answers import Replies
from orchestrator.dead_letters import DeadLetters, refuse
from orchestrator.emission import Emission, woken_early
from orchestrator.family import Family
from orchestrator.gatekeeping import Gatekeeper
from orchestrator.holding import Holding
from orchestrator.inputs import NotReady
from orchestrator.judge import Judge, Proposed, Stumbled, too_large
from orchestrator.letters import Envelope, Letter, is_for_the_archive, start_in
from orchestrator.letting_go import LettingGo
from orchestrator.memory import Known, Memory, lying_at
from orchestrator.outbound import Outbound
from orchestrator.put_off import PutOff
from orchestrator.record import Record
from orchestrator.run import Run
from orchestrator.schedules import Schedules
from orchestrator.sources import Sources
from orchestrator.stumbles import PATIENCE, Stumbles
from orchestrator.tray import AT_ONCE, PAUSE, Tray

log = structlog.get_logger()

LONGEST_PAUSE: Final = 5.0


class Orchestrator:
    """Decides about the runs of the partitions that this process owns."""

    def __init__(  # noqa: PLR0913  # The composition root names every port once.
        self,
        *,
        history: Log,
        ownership: Ownership,
        emission: Emission,
        sources: Sources,
        judge: Judge,
        replies: Replies,
        dead_letters: Letters,
        clock: Clock,
        tracer: Tracer | None = None,
        schedules: Schedules | None = None,
        family: Family | None = None,
        gates: Gatekeeper | None = None,
        memory: Memory | None = None,
    ) -> None:
        """`schedules`: None where nothing is started by the clock. `family`: None where no run starts another one.

        `gates`: None where no workflow has any.
        """
        memory = memory if memory is not None else Memory()
        self._ownership = ownership
        self._emission = emission
        self._sources = sources
        self._judge = judge
        self._clock = clock
        self._schedules = schedules
        self._family = family
        self.gates = gates
        self._memory = memory
        self._stumbles = Stumbles()
        self._to_park: dict[str, str] = {}
        self._cycling = False
        self._appending: frozenset[str] = frozenset()
        """The runs whose commits are on their way into the log."""
        self._letting_go = LettingGo(emission)
        self.holding = Holding(
            emission=emission,
            sources=sources,
            remembered=memory.get,
            history=history,
            ownership=ownership,
            clock=clock,
        )
        self._outbound = Outbound(
            emission=emission, letting_go=self._letting_go, holding=self.holding, family=family
        )
        self._answering = Answering(history=history, replies=replies, family=family)
        self.counts: dict[str, int] = defaultdict(int)
        self._put_off = PutOff(clock)
        self._insisting = asyncio.Semaphore(AT_ONCE)
        self._tray = Tray(
            memory=memory,
            sources=sources,
            emission=emission,
            counts=self.counts,
            put_off=self._put_off,
            filled=self._kick,
        )
        self._record = Record(history, clock, tracer or Tracer(), self.counts)
        self._dead_letters = DeadLetters(dead_letters, self.counts)

    async def serve(self) -> None:
        """Take arrivals until ownership is released; then finish what is under way."""
        async with asyncio.TaskGroup() as self._tasks:
            self._tasks.create_task(self.holding.run())
            async for arrived in self._ownership.arrivals():
                if isinstance(arrived, int):
                    self._take_over(arrived)
                    continue
                for arrival in arrived:
                    self._open(arrival)
                self._kick()
            self._tray.release()
            self._letting_go.end()
            self.holding.end()
            if self._schedules is not None:
                self._schedules.release()
            if self.gates is not None:
                self.gates.release()

    # --- What arrives -------------------------------------------------------------------------

    def _take_over(self, number: int) -> None:
        """The partition is ours anew: others may have acted meanwhile, and the servers may have lost what we emitted.

        What waits to be decided on may stay: some of it comes again, and that is harmless.
        """
        self.counts["taken_over"] += 1
        self._tray.taken_over(number)
        self._memory.forget(number)
        self.holding.taken_over(number)

    def _open(self, arrival: Arrival) -> None:
        messages = decode_bundle(arrival.body)
        envelope = Envelope(arrival, len(messages))
        self.counts["messages"] += len(messages)
        for place, message in enumerate(messages):
            if isinstance(message, Malformed):
                refusal = self._dead_letters.refuse_malformed(envelope, place, message, arrival.body)
                self._tasks.create_task(refusal)
            elif isinstance(message, ScheduleLook):
                self._look_at_schedule(message, partial(envelope.answer, place))
            elif isinstance(message, ToGate):
                self._say_to_gate(message, partial(envelope.answer, place))
            else:
                self._tray.put(Letter(message, envelope, place), self._tasks)

    def _look_at_schedule(self, message: ScheduleLook, answer: Callable[[Answer], None]) -> None:
        if self._schedules is None:
            answer(Answer(run=message.run, result="nothing"))
        else:
            self._schedules.look(message, answer, self._tasks)

    def _say_to_gate(self, message: ToGate, answer: Callable[[Answer], None]) -> None:
        if self.gates is None:
            answer(Answer(run=message.run, result="nothing"))
        else:
            self.gates.hear(message, answer, self._tasks)

    def _kick(self) -> None:
        if self._tray.has_ready and not self._cycling:
            self._cycling = True
            self._tasks.create_task(self._cycles())

    # --- The cycle ----------------------------------------------------------------------------

    async def _cycles(self) -> None:
        try:
            while self._tray.has_ready:
                await self._cycle(self._tray.take())
        finally:
            self._cycling = False

    async def _cycle(self, taken: dict[str, list[Letter]]) -> None:
        self.counts["cycles"] += 1
        began = self._clock.seconds()
        judged: list[Proposed] = []
        for run_id, letters in taken.items():
            proposed = self._judged(run_id, letters)
            if proposed is not None:
                judged.append(await self._lightened(proposed))
        proposals: list[Proposed] = []
        for proposed in judged:
            if proposed.sealed is None:
                self._nothing_new(proposed)
            else:
                proposals.append(proposed)
        if not proposals:
            return
        self._appending = frozenset(proposed.before.run.id for proposed in proposals)
        try:
            placed, traces = await self._record.append(proposals, began)
        except Ambiguous as ambiguous:
            log.warning("append.ambiguous", runs=len(proposals), reason=str(ambiguous))
            await self._start_over()
            return
        finally:
            self._appending = frozenset()
        self._settle(proposals, placed, traces)

    def _judged(self, run_id: str, letters: list[Letter]) -> Proposed | None:
        """What these letters change in the run; None while it gets ready, or is looked at again later."""
        now = self._clock.now()
        try:
            known = self._known(run_id, letters, now)
        except NotReady as missing:
            self._tray.prepare(run_id, letters, missing, self._tasks)
            return None
        reason = self._to_park.pop(run_id, "")
        if reason:
            self._sources.release(run_id)
        if known.needs_release:
            for letter in letters:
                refusal = self._dead_letters.refuse_unreadable(letter, known.needs_release)
                self._tasks.create_task(refusal)
            if known.said_so:
                return None
            return self._judge.parked(
                known, [], now, reason="an event from a newer release", needs=known.needs_release
            )
        if reason:
            return self._parked(known, letters, now, reason)
        if not known.archive_asked and is_for_the_archive(known, letters):
            self._memory.drop(run_id)
            self._tray.prepare(run_id, letters, None, self._tasks)
            return None
        try:
            judged = self._judge.judge(known, letters, now)
        except NotReady as missing:
            self._tray.prepare(run_id, letters, missing, self._tasks)
            return None
        except Stumbled as stumbled:
            self._stumble(run_id, letters, stumbled)
            return None
        self._sources.release(run_id)
        # One commit had no room for these: they are first in the next.
        self._tray.put_first(run_id, letters[len(judged.letters) :])
        return judged

    def _parked(self, known: Known, letters: list[Letter], now: datetime, reason: str) -> Proposed | None:
        """The run waits for a person; what was told is recorded by it, so that no executor's work is lost."""
        if not known.version and start_in(letters):
            return self._judge.parked(known, letters, now, reason=reason)
        if known.run.active and known.run.parked is None:
            self._tasks.create_task(self._again_later(letters))
            return self._judge.parked(known, [], now, reason=reason)
        refuse(letters, Failure(code="poison", message=reason))
        return None

    def _known(self, run_id: str, letters: list[Letter], now: datetime) -> Known:
        """What is remembered, or that there is nothing. Before a run begins: whether it once was and has left the log."""
        known = self._memory.get(run_id) or Known(run=Run.new(letters[0].message.org, run_id))
        start = start_in(letters)
        return known if start is None else self._sources.known(known, start[1], now)

    async def _lightened(self, proposed: Proposed) -> Proposed:
        """Values over 64 KiB go to the object store before the commit that names them."""
        if not too_large(proposed):
            return proposed
        while True:
            try:
                return await self._judge.lightened(proposed, self._sources.blobs)
            except Away as away:
                log.warning("blob.not-stored", run=proposed.after.run.id, reason=str(away))
                await asyncio.sleep(PAUSE)

    async def _start_over(self) -> None:
        """Nobody knows what was stored: take everything over anew, which forgets it. Unanswered calls come again."""
        self.counts["started_over"] += 1
        self._tray.start_over()
        await self._ownership.forget()

    # --- After the append ---------------------------------------------------------------------

    def _settle(
        self, proposals: Sequence[Proposed], placed: Sequence[int | None], traces: Sequence[str]
    ) -> None:
        """Remember, emit, then answer: an answer means that all of it is done."""
        crash("cycle.before_emit")
        settled: list[tuple[Proposed, Known]] = []
        waits: list[tuple[Known, WaitOpened]] = []
        for proposed, sequence, trace in zip(proposals, placed, traces, strict=True):
            if sequence is None:
                self._lost_the_race(proposed)
                continue
            # What an owner before us committed may never have been emitted; our own commit changes nothing about that.
            emitted = proposed.before.emitted or not proposed.before.version
            known = lying_at(proposed.after, proposed.events, sequence)
            known = structs.replace(known, emitted=emitted, trace=trace)
            self._memory.keep(known.run.id, known)
            settled.append((self._without_what_came_again(proposed, known), known))
            waits += self._outbound.after(proposed, known, self._tasks)
            waits += woken_early(known, proposed.letters, known.at)
        crash("cycle.after_emit")
        if waits:
            self._tasks.create_task(self._arm_then_answer(waits, settled))
        else:
            self._answer_all(settled)

    def _without_what_came_again(self, proposed: Proposed, known: Known) -> Proposed:
        """Who has us look, or says again what is known, hears of it when what was there before this commit was emitted too.

        The owner who was told it first may have died in between.
        """
        if known.emitted or not known.run.active:
            return proposed
        told = list(zip(proposed.letters, proposed.verdicts, strict=True))
        repeated = [each for each in told if not each[1].changed]
        if not repeated:
            return proposed
        again = Proposed(
            before=known,
            after=known,
            letters=[letter for letter, _ in repeated],
            verdicts=[verdict for _, verdict in repeated],
        )
        self._tasks.create_task(self._insist(self._emit_again, again))
        others = [each for each in told if each[1].changed]
        return structs.replace(
            proposed, letters=[letter for letter, _ in others], verdicts=[verdict for _, verdict in others]
        )

    def _lost_the_race(self, proposed: Proposed) -> None:
        """Another commit was there first: read what it says and decide anew."""
        self.counts["conflicts"] += 1
        run_id = proposed.after.run.id
        self._memory.drop(run_id)
        later = self._tray.take_of(run_id)
        if proposed.letters or later:
            self._tray.prepare(run_id, [*proposed.letters, *later], None, self._tasks)

    async def _arm_then_answer(
        self, waits: Sequence[tuple[Known, WaitOpened]], settled: Sequence[tuple[Proposed, Known]]
    ) -> None:
        """A wake-up that could not be stored is armed again; until then nobody is told that the commit is done."""
        generation = self._tray.generation
        while True:
            try:
                await self._emission.wakes(waits)
            except Away as away:
                log.warning("wake.not-armed", waits=len(waits), reason=str(away))
            else:
                self._answer_all(settled)
                return
            if not await self._tray.may_try_again(generation):
                return

    def _answer_all(self, settled: Sequence[tuple[Proposed, Known]]) -> None:
        for proposed, known in settled:
            self._answering.settle(proposed, known, self._tasks)

    def _answer(self, proposed: Proposed, known: Known) -> None:
        self._answering.answer(proposed, known, self._tasks)

    def _nothing_new(self, proposed: Proposed) -> None:
        """The state asks for no change. But a memory proves nothing: only a start that was there stays there."""
        known = proposed.before
        looked = any(isinstance(letter.message, Look) for letter in proposed.letters)
        if known.run.active and not known.archived and (looked or not known.emitted):
            self._tasks.create_task(self._insist(self._emit_again, proposed))
        elif known.version and all(isinstance(letter.message, StartRun) for letter in proposed.letters):
            self._answer(proposed, known)
        else:
            self._tasks.create_task(self._insist(self._answer_nothing, proposed))

    async def _answer_nothing(self, proposed: Proposed) -> None:
        """Answer once the log has confirmed that nobody committed behind our back: an owner may be one no longer."""
        if await self._record.is_last(proposed.before):
            if self._family is not None and any(isinstance(each.message, Look) for each in proposed.letters):
                self._family.again(proposed.before, self._tasks)
            await self._emission.wakes(woken_early(proposed.before, proposed.letters, self._clock.now()))
            self._answer(proposed, proposed.before)
        else:
            self._decide_anew(proposed)

    async def _emit_again(self, proposed: Proposed) -> None:
        """Emit what nobody holds: first TASKS is asked, then INBOX is read to its end, then RUNS is asked."""
        known = proposed.before
        missing = await self._emission.missing(known)
        programs = await self._sources.fetched_programs(known.run.plan)
        if not await self._record.is_last(known):
            self._decide_anew(proposed)
            return
        if missing and self._is_undecided(known.run.id):
            # What INBOX brought may say that an attempt is over: decide about that first, then look again.
            for letter in proposed.letters:
                self._tray.put(letter, self._tasks)
            self._kick()
            return
        await self._outbound.again(known, missing, programs, self._tasks)
        self.counts["emitted_again"] += len(missing)
        self._remember_emitted(known)
        self._answer(proposed, known)

    def _is_undecided(self, run_id: str) -> bool:
        """Whether something that was told of the run is not in the log yet."""
        return self._tray.has(run_id) or run_id in self._appending

    async def _insist(self, act: Callable[[Proposed], Awaitable[None]], proposed: Proposed) -> None:
        """Until nothing is away that it needs, or the letters belong to an ownership that is over.

        So many at a time: each asks the servers three questions, and after a start it may be thousands.
        """
        run_id, pause = proposed.before.run.id, PAUSE
        term = self._tray.term(run_id)
        while True:
            async with self._insisting:
                if self._tray.term(run_id) != term:
                    return
                try:
                    await act(proposed)
                except Away as away:
                    self._put_off.tell("answer.postponed", run_id, away)
                else:
                    return
            if not await self._tray.may_try_again(term[0], pause):
                return
            pause = min(2 * pause, LONGEST_PAUSE)

    def _decide_anew(self, proposed: Proposed) -> None:
        """Somebody committed behind our back: what they said counts, and the letters are read with it in mind."""
        self.counts["behind"] += 1
        run_id = proposed.before.run.id
        self._memory.drop(run_id)
        # Read first: of a run that is unknown, a start would ask the archive and hear again what is not so any more.
        self._tray.prepare(run_id, list(proposed.letters), None, self._tasks)

    def _remember_emitted(self, known: Known) -> None:
        remembered = self._memory.get(known.run.id)
        if remembered is not None and remembered.sequence == known.sequence:
            self._memory.keep(known.run.id, structs.replace(remembered, emitted=True))

    # --- What cannot be handled ---------------------------------------------------------------

    def _stumble(self, run_id: str, letters: list[Letter], stumbled: Stumbled) -> None:
        """Our own code raised: try again a few times, then bury the message and park its run."""
        if self._stumbles.may_try_again(run_id, stumbled):
            self._tasks.create_task(self._again_later(letters))
            return
        culprit = stumbled.letter
        others = [letter for letter in letters if letter is not culprit]
        self._tasks.create_task(self._bury(culprit, f"code raised {PATIENCE} times: {stumbled}", others))

    async def _again_later(self, letters: list[Letter]) -> None:
        generation = self._tray.generation
        await asyncio.sleep(PAUSE)
        if generation == self._tray.generation:
            for letter in letters:
                self._tray.put(letter, self._tasks)
            self._kick()

    async def _bury(self, culprit: Letter, reason: str, others: list[Letter]) -> None:
        """The message goes to the dead letters, its run is parked, the other messages go on."""
        message = culprit.message
        await self._dead_letters.keep(message, reason)
        known = self._memory.get(message.run)
        if known is not None and known.run.parked is not None:
            refuse([culprit], Failure(code="poison", message=reason))
        else:
            self._to_park[message.run] = reason
            self._tray.put(culprit, self._tasks)
        for letter in others:
            self._tray.put(letter, self._tasks)
        self._kick()
