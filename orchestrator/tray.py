"""The letters of runs that nobody has decided on yet: some can be decided on now, for others something is fetched first.

What is fetched for one run (its plan, a value, an answer) delays no other one; histories are read so many at a time.
"""

import asyncio
from collections import Counter
from collections.abc import Callable
from itertools import islice
from typing import Final

from chassis.ports import Away
from contracts.messages import StartRun
from contracts.subjects import partition
from orchestrator.emission import Emission
from orchestrator.inputs import NotReady
from orchestrator.letters import Letter, is_wished_of, needs_all
from orchestrator.memory import Memory
from orchestrator.put_off import PutOff
from orchestrator.sources import Sources

PAUSE: Final = 0.2
AT_ONCE: Final = 128
"""So many runs at a time are read, or looked after, beside the cycles: more than nats-server needs to be busy. After a start
thousands may want it at one moment, and who asks for all at once has no answer in time to any."""
A_CYCLE: Final = 1_000
"""So many runs at the most are decided on in one cycle: an append whose answer is late is for nothing as a whole."""


class Tray:
    """Letters by run, in the order in which they came."""

    def __init__(
        self,
        *,
        memory: Memory,
        sources: Sources,
        emission: Emission,
        counts: dict[str, int],
        put_off: PutOff,
        filled: Callable[[], None],
    ) -> None:
        """`filled`: called when a run got ready."""
        self._memory, self._sources, self._emission = memory, sources, emission
        self._counts, self._put_off, self._filled = counts, put_off, filled
        self._ready: dict[str, list[Letter]] = {}
        self._preparing: dict[str, list[Letter]] = {}
        self._released = False
        self._reading = asyncio.Semaphore(AT_ONCE)
        self.generation = 0
        """Of our ownership: letters of one that is over come to the next owner, or to us again."""
        self._terms: Counter[int] = Counter()
        """How often each partition was taken over."""

    @property
    def has_ready(self) -> bool:
        return bool(self._ready)

    def has(self, run_id: str) -> bool:
        return run_id in self._ready or run_id in self._preparing

    def put(self, letter: Letter, tasks: asyncio.TaskGroup) -> None:
        run_id = letter.message.run
        if run_id in self._preparing:
            waiting = self._preparing[run_id]
            if not letter.direct:
                # INBOX brings again what is not answered for long: the last bundle with it is enough.
                waiting[:] = [each for each in waiting if not letter.replaces(each)]
            waiting.append(letter)
        elif (
            run_id in self._ready
            or self._memory.get(run_id) is not None
            or isinstance(letter.message, StartRun)
        ):
            # A start is taken for the first one: where it is not, the log refuses the append and the history is read.
            self._ready.setdefault(run_id, []).append(letter)
        else:
            self.prepare(run_id, [letter], None, tasks)

    def put_first(self, run_id: str, letters: list[Letter]) -> None:
        """Before whatever has come meanwhile."""
        if letters:
            self._ready[run_id] = letters + self._ready.pop(run_id, [])

    def take(self) -> dict[str, list[Letter]]:
        """What can be decided on, and as much of it as one cycle has room for."""
        if len(self._ready) <= A_CYCLE:
            taken, self._ready = self._ready, {}
            return taken
        return {run_id: self._ready.pop(run_id) for run_id in list(islice(self._ready, A_CYCLE))}

    def take_of(self, run_id: str) -> list[Letter]:
        return self._ready.pop(run_id, [])

    def prepare(
        self, run_id: str, letters: list[Letter], missing: NotReady | None, tasks: asyncio.TaskGroup
    ) -> None:
        """Fetch what the run's decision needs (None: its history), beside the cycles; its letters wait meanwhile."""
        if run_id in self._preparing:
            self._preparing[run_id] += letters
            return
        self._preparing[run_id] = letters
        tasks.create_task(self._get_ready(run_id, letters[0].message.org, missing))

    def start_over(self) -> None:
        """Forget every letter: what is not answered comes again."""
        self.generation += 1
        self._ready.clear()
        self._preparing.clear()

    def taken_over(self, number: int) -> None:
        """What INBOX has brought of the partition comes once more: nobody has to insist on what came before."""
        self._terms[number] += 1

    def term(self, run_id: str) -> tuple[int, int]:
        """Of our ownership of the run's partition."""
        return self.generation, self._terms[partition(run_id)]

    def release(self) -> None:
        """Try nothing again from now on."""
        self._released = True

    async def may_try_again(self, generation: int, pause: float = PAUSE) -> bool:
        """After a pause; not when the letters belong to an ownership that is over: unanswered they come to the next."""
        if not self._released:
            await asyncio.sleep(pause)
        return generation == self.generation and not self._released

    async def _get_ready(self, run_id: str, org: str, missing: NotReady | None) -> None:
        generation = self.generation
        while True:
            try:
                await self._fetch(run_id, org, missing)
                break
            except Away as away:
                self._put_off.tell("run.not-ready", run_id, away)
            if not await self.may_try_again(generation):
                break
        letters = self._preparing.pop(run_id, []) if generation == self.generation else []
        if letters:
            self.put_first(run_id, letters)
            self._filled()

    async def _fetch(self, run_id: str, org: str, missing: NotReady | None) -> None:
        if missing is not None:
            await self._sources.fetch(missing, run_id)
            return
        async with self._reading:
            letters = self._preparing.get(run_id, [])
            whole, wished = any(needs_all(letter.message) for letter in letters), is_wished_of(letters)
            known = await self._sources.load(org, run_id, whole=whole, wished=wished)
        self._memory.keep(run_id, known)
        self._emission.learnt(known)
        self._counts["loads"] += 1
