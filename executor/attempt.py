"""One attempt at one step: run the node, and tell what happened as a fact.

Rule that holds here: an attempt happens once, or says that it may not have. A call that must not be repeated blindly is
claimed before its first byte; what fails after that without an answer leaves the step in doubt.
"""

import asyncio
import traceback
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from datetime import datetime
from typing import Any, Final, Literal

import structlog
from msgspec import Struct, field, structs

from chassis.chains import Chains
from chassis.clock import Clock
from chassis.crash import crash
from chassis.egress import Credential, Egress, EgressError
from chassis.ids import digest
from chassis.links import Links
from chassis.ports import Blobs, Log, Proposal
from chassis.standing import standing_of
from chassis.telemetry import Histogram, Tracer, trace_id
from contracts.codec import Malformed
from contracts.messages import Outcome, StepBroken, StepDone, StepInDoubt, StepLetGo, Task
from contracts.nodes import Repeat
from contracts.payloads import Blob, Inline
from executor.effects import Effects
from executor.errors import (
    BadConfig,
    Crashed,
    PayloadMissing,
    StepError,
    TookTooLong,
    Unheard,
    UnknownNode,
    failure,
    from_egress,
    withheld,
)
from executor.links import Linked, linked
from executor.node import Outside, Result, SecretReference
from executor.opening import Opening
from executor.outgoing import Named
from executor.outputs import Packed, keep, pack
from executor.patience import insist
from executor.redaction import Redaction
from executor.registry import Installed, Registry
from executor.relay import Relay
from executor.sandbox.sandbox import Sandbox

log = structlog.get_logger()

_LET_GO: Final[dict[str, tuple[Literal["none", "possible", "done"], str]]] = {
    "before": ("none", "The attempt was stopped before its call to the outside began."),
    "during": (
        "possible",
        "The attempt was stopped while its call was under way; nobody knows whether it took effect.",
    ),
    "after": ("done", "The attempt was stopped after its call had been answered; the effect is not undone."),
}


class Means(Struct, frozen=True, kw_only=True):
    """What attempts are made with; one per process."""

    actor: str
    registry: Registry
    effects: Effects
    runs: Log
    opening: Opening
    links: Links
    chains: Chains
    blobs: Blobs
    egress: Egress
    relay: Relay
    sandbox: Sandbox
    clock: Clock
    tracer: Tracer
    took: Histogram = field(default_factory=Histogram)
    """Seconds of each attempt at a node."""


class ClaimedElsewhere(Exception):
    """Somebody has begun this attempt's call before us."""


class GivenUp(Exception):
    """The outcome of this attempt was told without its node: too late to begin a call."""


class Attempt:
    """One attempt under way. It is also the `Context` that its node is given."""

    def __init__(self, task: Task, means: Means) -> None:
        self.task = task
        self.unwanted = False
        self.config = b""
        self._linked = Linked()
        self._told = False
        self._means = means
        self._stage: Literal["before", "during", "after"] = "before"
        self.unsealed: Sequence[str] = ()
        self._promise: Repeat = task.repeat
        self._claimed = False
        self._claiming: Proposal | None = None
        self._elsewhere = False
        self._given_up = False
        self._running: asyncio.Task[Any] | None = None
        self._must_end = float("inf")

    # --- For the executor

    async def make(self, *, doubtful: bool) -> Outcome | None:
        """The outcome; None when nobody waits for one.

        `doubtful`: the task may be an echo of one that is done, so the history is asked first. Never raises for what a
        node does.
        """
        task = self.task
        if doubtful and not await self._still_open():
            return None
        began = self._means.clock.seconds()
        self._must_end = min(self._must_end, began + task.timeout_s)
        with self._means.tracer.span("attempt", task.trace, node=task.node, type=task.node_type) as trace:
            outcome = await self._outcome(trace, began)
        vouched = await self._vouched_for(outcome, trace)
        # The claim may be our own and its outcome known: then only the task came again.
        if self._elsewhere and not await self._still_open():
            return None
        return vouched

    async def _vouched_for(self, outcome: Outcome, trace: str = "") -> Outcome:
        """That a call did not happen is ours to say only when nobody else may begin it: our claim keeps it so."""
        denies = isinstance(outcome, StepBroken) or (
            isinstance(outcome, StepLetGo) and outcome.effect == "none"
        )
        if denies and self._promise == "no" and not self._elsewhere:
            self._elsewhere = not await self._claim()
        if not self._elsewhere:
            return outcome
        if isinstance(outcome, StepLetGo):
            return StepLetGo(**self._address(trace), effect="possible", detail=_LET_GO["during"][1])
        return self._judged(Unheard(touched=True), 0, trace)

    def let_go(self) -> None:
        """Nobody wants this attempt any more: stop it where it is."""
        if self.unwanted:
            return
        self.unwanted = True
        self._must_end = min(self._must_end, self._means.clock.seconds())
        if self._running is not None:
            self._told = True
            self._running.cancel()

    def overdue_by(self, now: float) -> float:
        """For how long the node's code has been at work since it was told to stop; below zero: it was not told."""
        return now - self._must_end if self._running is not None else -1.0

    def stopped(self) -> StepLetGo:
        """What is known about an attempt that was let go."""
        effect, detail = _LET_GO[self._stage]
        return StepLetGo(**self._address(), effect=effect, detail=detail)

    async def given_up(self) -> Outcome:
        """What is known about an attempt that was told to stop and goes on. From now on it may begin no call."""
        self._given_up = True
        took_ms = int(self.task.timeout_s * 1000)
        return await self._vouched_for(
            self.stopped() if self.unwanted else self._judged(self._late(), took_ms, "")
        )

    async def crashed(self, error: Exception) -> Outcome:
        """What is known about an attempt in which our own code failed. Never raises for that code."""
        try:
            return await self._vouched_for(self._judged(self._crashed(error), 0, ""))
        except Exception as again:
            # Not even the ledger can be asked: then nobody knows.
            self._crashed(again)
            return self._judged(Unheard(touched=True), 0, "")

    def names(self) -> dict[str, Any]:
        """What a log line says about which attempt it is."""
        task = self.task
        return {
            "org": task.org,
            "run": task.run,
            "step": task.step,
            "attempt": task.attempt,
            "node_type": task.node_type,
            "trace": trace_id(task.trace),
        }

    # --- For the node

    @property
    def key(self) -> str:
        return self.task.key

    @property
    def egress(self) -> Outside:
        return Named(self._means.egress, self._cause) if self.task.chain else self._means.egress

    @property
    def relay(self) -> Relay:
        return self._means.relay

    @property
    def sandbox(self) -> Sandbox:
        return self._means.sandbox

    @property
    def now(self) -> datetime:
        return self._means.clock.now()

    @property
    def proofs(self) -> list[str]:
        return self._linked.proofs

    @asynccontextmanager
    async def effect(self) -> AsyncIterator[None]:
        if self._promise == "no" and not await self._claim():
            self._elsewhere = True
            raise ClaimedElsewhere
        if self._given_up:
            raise GivenUp
        self._stage = "during"
        crash("effect.after_claim")
        yield
        crash("effect.after_call")
        self._stage = "after"

    async def _claim(self) -> bool:
        """The same claim however often it is made; once it is ours nobody asks again."""
        if self._claiming is None:
            self._claiming = self._means.effects.prepare(self.task)
        self._claimed = self._claimed or await self._means.effects.claim(self._claiming)
        return self._claimed

    async def open(self, reference: SecretReference) -> Credential:
        return await self._means.opening.credential(self.task, self.config, reference)

    async def fetch(self, blob: Blob) -> bytes:
        try:
            return await insist(lambda: self._means.blobs.get(blob))
        except KeyError as error:
            raise PayloadMissing from error

    # --- Inside

    def _cause(self) -> str:
        task = self.task
        return self._means.chains.said(task.org, task.run, task.depth, task.chain)

    async def _still_open(self) -> bool:
        standing = await insist(lambda: standing_of(self.task, self._means.runs))
        self.unwanted = self.unwanted or standing == "stopping"
        return standing != "closed"

    async def _outcome(self, trace: str, began: float) -> Outcome:
        if self.unwanted:
            return self.stopped()
        brought = await self._run_node()
        seconds = self._means.clock.seconds() - began
        self._means.took.observe(seconds)
        took_ms = round(seconds * 1000)
        if isinstance(brought, StepError):
            return self._judged(brought, took_ms, trace)
        if brought is None:
            return self.stopped()
        try:
            packed = await self._sealed(pack(brought.output, self._linked.data))
        except StepError as error:
            return self._judged(error, took_ms, trace)
        return StepDone(
            **self._address(trace),
            output=await keep(packed, self._means.blobs),
            ports=brought.ports,
            took_ms=took_ms,
        )

    async def _sealed(self, packed: Packed) -> Packed:
        """With what is marked as sensitive sealed. A file cannot be: it would lie in the object store all the same."""
        body = await self._means.opening.sealed(self.task, packed.body)
        if body is not packed.body and any(
            digest(binary.data).encode() not in body for binary in packed.binaries
        ):
            raise BadConfig("A file cannot be sealed with the output that names it.", field="/sensitive")
        return Packed(body, packed.binaries)

    async def _run_node(self) -> Result | StepError | None:
        """What the node brought, or why it brought nothing; None when it was told to let go."""
        self._running = current = asyncio.current_task()
        bound = asyncio.timeout(self.task.timeout_s)
        try:
            async with bound:
                brought: Result | StepError | None = await self._result()
        except asyncio.CancelledError as cancelled:
            if current is not None and current.cancelling() > self._told:
                raise  # The executor ends, not the attempt.
            brought = None if self._told else self._crashed(cancelled)
        except (ClaimedElsewhere, GivenUp):
            brought = Unheard(touched=True)
        except StepError as error:
            brought = error
        except EgressError as error:
            brought = from_egress(error, repeatable=self._promise != "no")
        except (Exception, SystemExit) as error:
            # A node may raise anything: that is a fact about its attempt, not a crash of ours.
            brought = self._late() if bound.expired() else self._crashed(error)
        finally:
            self._running = None
        if self._told and current is not None:
            current.uncancel()
        return None if self.unwanted and isinstance(brought, StepError) else brought

    async def _result(self) -> Result:
        node = self._means.registry.find(self.task.node_type)
        if node is None:
            raise UnknownNode
        config = await self._configured(node)
        if node.promise is not None:
            self._promise = node.promise(config)
        try:
            result = await node.node.run(config, self)
        except StepError as error:
            if node.node.is_strange_to(self.task):
                withheld(error)
            raise
        if not isinstance(result, Result) or not node.may_leave_by(result.ports):
            raise Crashed("The node's code answered with something that its type does not announce.")
        return result

    async def _configured(self, node: Installed) -> Any:
        payload = self.task.config
        written = bytes(payload.value) if isinstance(payload, Inline) else await self.fetch(payload)
        self.config = written
        if not node.keeps_sealed:
            opened = await self._means.opening.unsealed(self.task, written)
            self.unsealed = opened.texts
            self.config, self._linked = linked(opened.config, self.task, self._means.links)
        try:
            return node.decode(self.config)
        except Malformed as error:
            # What was sealed must not be shown, not even in a message about it.
            shown = str(error) if self.config is written else ""
            raise BadConfig(shown, field=error.pointer[:1_000]) from error

    def _late(self) -> StepError:
        begun = self._stage != "before"
        return TookTooLong(touched=begun, retryable=self._promise != "no" or not begun)

    def _crashed(self, error: BaseException) -> StepError:
        place = traceback.extract_tb(error.__traceback__)[-1:]
        log.error(
            "attempt.crashed",
            **self.names(),
            error=type(error).__name__,
            place=[f"{frame.filename}:{frame.lineno}" for frame in place],
        )
        # The kind only: the text of a strange exception may hold what nobody shall see.
        message = f"{Crashed.__doc__} ({type(error).__name__})"
        return Crashed(message, touched=self._stage != "before")

    def _judged(self, error: StepError, took_ms: int, trace: str) -> Outcome:
        told = structs.replace(failure(error, self.task.node), message=self._sayable(str(error)))
        if self._promise == "no" and error.touched:
            return StepInDoubt(**self._address(trace), error=told)
        return StepBroken(
            **self._address(trace), error=told, retry_after_s=error.retry_after_s, took_ms=took_ms
        )

    def _sayable(self, message: str) -> str:
        """What may be told of an error: nothing that was opened for this attempt, cut only then."""
        plain = message.encode("utf-8", "replace").decode()
        return self._linked.text(Redaction.of(self.unsealed).text(plain))[:2_000]

    def _address(self, trace: str = "") -> dict[str, Any]:
        task = self.task
        return {
            "org": task.org,
            "run": task.run,
            "step": task.step,
            "attempt": task.attempt,
            "executor": self._means.actor,
            "trace": trace or task.trace,
        }
