"""The effect ledger: “I begin this call now”, written before the first byte of a call that must not be repeated blindly.

Rule that holds here: the first claim of an attempt wins. Whoever finds another's claim knows only that a call may have
begun, and must not make it again.
"""

from itertools import count

from chassis.clock import Clock
from chassis.ports import Log, Proposal
from contracts.codec import encode
from contracts.messages import EffectClaim, Task
from contracts.subjects import effect
from executor.patience import insist


class Effects:
    """The claims of one executor process."""

    def __init__(self, log: Log, clock: Clock, owner: str) -> None:
        self._log = log
        self._clock = clock
        self._owner = owner
        self._claims = count(1)

    def prepare(self, task: Task) -> Proposal:
        """The claim of one delivery of a task.

        Every one has a body of its own, so that only a repeat of this very append counts as ours: not what an earlier
        life of this process, or an earlier delivery of the task, has written.
        """
        claim = EffectClaim(
            org=task.org,
            run=task.run,
            step=task.step,
            attempt=task.attempt,
            executor=f"{self._owner}.{next(self._claims)}",
            at=self._clock.now().timestamp(),
        )
        return Proposal(effect(task.org, task.run, task.step, task.attempt), encode(claim), expected=0)

    async def claim(self, proposal: Proposal) -> bool:
        """Whether the call is ours to begin. Waits while the ledger is away: nothing has left yet."""
        # Also when nobody knows whether it was stored: the same claim again finds out.
        [sequence] = await insist(lambda: self._log.append([proposal]))
        return sequence is not None
