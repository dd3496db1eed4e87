"""How much is taken in at once. What would only wait in memory is refused, so that what is taken is answered soon.

Three things can be too many, and each has its bound: starts on their way to the runs' owners, bytes of bodies, and attempts
that wait for an executor. The first bound moves. While nothing is refused it stands as high as it may: many at once are
cheaper than few. As soon as something must be refused anyway, those that are let in are so few that they are answered about
as fast as in quiet times: the bound shrinks while even the fastest answer of a tenth of a second was slow (so there is a
queue, as CoDel sees it), and grows while it was not. When nothing is refused any more it is soon as high as it may be.
"""

import asyncio
import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Final, Protocol

from chassis.clock import Clock
from chassis.edge.problems import Problem, whole_answer
from contracts.limits import BODIES_BYTES
from contracts.messages import Answer, StartRun

_WINDOW_SECONDS: Final = 0.1
_LEAST: Final = 2
"""So many starts may always be under way: enough to learn that it got better."""
_QUIET: Final = 4
"""At so many at once or fewer the owners' delay is that of quiet times."""
_SLOW: Final = 3.0
"""Slow is what takes so many times as long as in quiet times."""
_QUIET_SECONDS: Final = 0.003
"""What a quiet start takes, until it is known."""
_MEMORY: Final = 0.05
"""How much one quiet tenth of a second changes what is known of quiet times."""
_SHRINK: Final = 0.6
_GROW: Final = 1.1
_RECOVER: Final = 1.5
_FORGET_SECONDS: Final = 1.0
"""After so long without a refusal and without a start the bound is as high as it may be."""
_SOON: Final = 1
_LATER: Final = 5


class Sender(Protocol):
    """Says a start to its run's owner."""

    async def send(self, message: StartRun, /) -> Answer: ...


class Admission:
    """One per process, between what the world sends and `Dispatch`."""

    def __init__(
        self,
        sender: Sender,
        clock: Clock,
        *,
        most: int,
        backlog: Callable[[], int],
        most_backlog: int,
    ) -> None:
        """`most` starts at once, while fewer than `most_backlog` attempts wait."""
        self._sender = sender
        self._clock = clock
        self._most = most
        self._backlog = backlog
        self._most_backlog = most_backlog
        self.bound: float = most
        """How many starts may be under way now."""
        self.quiet = _QUIET_SECONDS
        """What a start takes in quiet times."""
        self.under_way = 0
        self._at_the_door = 0
        """Let in since the loop last ran its tasks: they become starts only then."""
        self.bytes = 0
        """Of bodies that are held."""
        self.refused = {"starts": 0, "bytes": 0, "backlog": 0}
        self._answers = {str(seconds): whole_answer(_overloaded(seconds)) for seconds in (_SOON, _LATER)}
        self._window = _Window(ends=0.0)
        self._refused_at = -math.inf

    def check(self) -> None:
        """Whether one more may come in. Raises `Problem` when it may not: nothing of it was read."""
        self._forget()
        if self.under_way + self._at_the_door >= self.bound:
            raise self._no("starts", _SOON)
        if self._backlog() >= self._most_backlog:
            raise self._no("backlog", _LATER)

    def refusal(self) -> bytes | None:
        """The same for whoever speaks HTTP by hand: the whole answer to one that may not come in."""
        try:
            self.check()
        except Problem as problem:
            return self._answers[problem.headers["retry-after"]]
        if not self._at_the_door:
            asyncio.get_running_loop().call_soon(self._go_in)
        self._at_the_door += 1
        return None

    def _go_in(self) -> None:
        self._at_the_door = 0

    @contextmanager
    def holding(self, size: int) -> Iterator[None]:
        """Hold a body of this size. Raises `Problem` when there is no room for it."""
        if self.bytes + size > BODIES_BYTES:
            raise self._no("bytes", _SOON)
        self.bytes += size
        try:
            yield
        finally:
            self.bytes -= size

    async def send(self, message: StartRun) -> Answer:
        """The owner's answer, as `Dispatch` gives it. Raises `Problem` when too many are under way."""
        if self.under_way >= self.bound:
            raise self._no("starts", _SOON)
        self.under_way += 1
        self._window.most = max(self._window.most, self.under_way)
        began = self._clock.seconds()
        try:
            return await self._sender.send(message)
        finally:
            self.under_way -= 1
            now = self._clock.seconds()
            self._window.fastest = min(self._window.fastest, now - began)
            if now >= self._window.ends:
                self._learn(self._window)
                self._window = _Window(ends=now + _WINDOW_SECONDS)

    def _learn(self, window: "_Window") -> None:
        refusing = self._refused_at >= window.ends - _WINDOW_SECONDS
        if refusing and window.fastest > _SLOW * self.quiet:
            self.bound = max(min(_LEAST, self._most), self.bound * _SHRINK)
        else:
            self.bound = min(self._most, self.bound * (_GROW if refusing else _RECOVER))
        if window.most <= _QUIET and not refusing:
            self.quiet += _MEMORY * (window.fastest - self.quiet)

    def _forget(self) -> None:
        """What was learned long ago counts no more."""
        if self.under_way == 0 and self.bound < self._most:
            last = max(self._window.ends, self._refused_at)
            if self._clock.seconds() > last + _FORGET_SECONDS:
                self.bound = self._most

    def _no(self, what: str, seconds: int) -> Problem:
        self.refused[what] += 1
        self._refused_at = self._clock.seconds()
        return _overloaded(seconds)


def _overloaded(seconds: int) -> Problem:
    return Problem("overloaded", headers={"retry-after": str(seconds)})


@dataclass
class _Window:
    """What was seen in a tenth of a second."""

    ends: float
    fastest: float = math.inf
    most: int = 0
    """Starts under way at once."""
