"""Says to runs' owners what people want: start, cancel, try again, settle a doubt."""

from collections.abc import Callable, Mapping
from typing import Final

from msgspec import Raw, Struct, structs

from chassis.clock import Clock
from chassis.dispatch import QUEUED, Dispatch
from chassis.edge.problems import Problem, unavailable
from chassis.edge.trails import Trails
from chassis.ids import digest, receipt, run_id
from chassis.ports import Blobs, Log
from contracts.codec import Decoder, decode_commit, encode
from contracts.limits import INLINE_BYTES
from contracts.messages import (
    Answer,
    CancelRun,
    DecideApproval,
    ResolveDoubt,
    RetryRun,
    SendSignal,
    StartRun,
)
from contracts.payloads import Inline, Payload
from contracts.runs import Cause, Mode, beginning
from contracts.subjects import RUNS
from contracts.subjects import run as run_subject
from gateway.callers import Caller
from gateway.directory import Directory
from gateway.domain import Place
from gateway.payloads import payload_of
from gateway.places import Places
from gateway.rejected import Rejected, absent
from gateway.runs import views
from gateway.runs.histories import NEWEST, Histories, told_of
from gateway.runs.marks import PlanMarks
from gateway.runs.queries import RunQueries
from gateway.runs.views import StartedRun, Wished
from gateway.sealing import Sealing
from gateway.workflows.rules import WorkflowState

CROWDED_SECONDS: Final = 5
NOT_SEALED: Final = "signal.not_sealed"


class Input(Struct, frozen=True, kw_only=True):
    """What expressions see as `trigger` in a run that somebody started by hand."""

    body: Raw
    headers: dict[str, str] = {}
    query: dict[str, str] = {}
    method: str = "API"
    content_type: str = "application/json"
    received_at: str


class Wanted(Struct, frozen=True, kw_only=True):
    """One wish for a run, whoever has it."""

    workflow_id: str
    version: int
    plan: str
    source: str
    """`api:<workflow>` or a trigger's id: part of the run's id."""
    cause: Cause
    input: Payload
    key: str | None = None
    request: str | None = None
    trigger: str | None = None
    mode: Mode = "live"
    receipt: str
    sealed_as: str = ""
    """`key_id` of the salt under which values of the input are sealed."""


def run_named(org: str, source: str, ours: str, key: str | None) -> str:
    """The id of the run that is wanted: the same for the same key, for ever."""
    return run_id(org, source, f"receipt:{ours}" if key is None else f"idempotency:{key}")


class Meant(Struct, frozen=True):
    """What a run's newest events are about."""

    opening: int
    doubts: Mapping[str, int]
    """The attempt in doubt, by step."""


class _Doubted(Struct, frozen=True):
    step: str
    attempt: int


class _Continued(Struct, frozen=True):
    opening: int
    doubts: Mapping[str, int]


_doubted: Final = Decoder[_Doubted](_Doubted)
_continued: Final = Decoder[_Continued](_Continued)


class Runs:
    """Every wish that a run can be told."""

    def __init__(  # noqa: PLR0913  # The composition root names every port once.
        self,
        *,
        dispatch: Dispatch,
        log: Log,
        blobs: Blobs,
        directory: Directory,
        places: Places,
        clock: Clock,
        queries: RunQueries,
        histories: Histories,
        sealing: Sealing,
        disk_is_full: Callable[[], bool],
        trails: Trails,
        crowds: Callable[[str], bool] = lambda _org: False,
    ) -> None:
        """`crowds`: whether so much of an org is held that it may begin nothing more."""
        self._dispatch, self._log, self._blobs = dispatch, log, blobs
        self._directory, self._places, self._clock = directory, places, clock
        self._queries, self._histories, self._disk_is_full = queries, histories, disk_is_full
        self._crowds, self._sealing, self._trails = crowds, sealing, trails
        self._marks = PlanMarks(histories, blobs)

    async def start(
        self, caller: Caller, workflow_id: str, body: Raw, key: str | None, request: bytes
    ) -> StartedRun:
        """Start the published version. The same key starts the same run, for ever; with another request it is refused."""
        workflow = self.published(caller.org, workflow_id)
        source, ours, marks = f"api:{workflow_id}", receipt(), workflow.sensitive
        run = run_named(caller.org, source, ours, key)
        sealed, sealed_as = await self._sealing.sealed(caller.org, run, bytes(body), marks)
        given = Input(body=Raw(sealed), received_at=self._clock.now().isoformat())
        return await self.want(
            caller,
            Wanted(
                workflow_id=workflow_id,
                version=workflow.published,
                plan=workflow.plan,
                source=source,
                cause=Cause(kind="api", id=caller.key),
                input=await payload_of(encode(given), self._blobs),
                key=key,
                request=await self._sealing.request(caller.org, run, request, marks),
                receipt=ours,
                sealed_as=sealed_as,
            ),
        )

    def published(self, org: str, workflow_id: str) -> WorkflowState:
        if not self._directory.complete.is_set():
            raise unavailable("The gateway is starting.")
        workflow = self._directory.workflow(org, workflow_id)
        if workflow is None:
            raise absent("workflow")
        if not workflow.plan:
            raise Rejected("conflict", "No version of the workflow is published.")
        return workflow

    async def want(self, caller: Caller, wanted: Wanted) -> StartedRun:
        """Start it. Raises `Problem` for a workflow that starts itself, by our own API, too often."""
        if self._disk_is_full():
            raise unavailable("The log's disk is nearly full; no run starts until there is room.", 5)
        if self._crowds(caller.org):
            raise Problem("held.too_many", headers={"retry-after": str(CROWDED_SECONDS)})
        cause = self._trails.behind(wanted.cause, caller.said, caller.org, wanted.workflow_id)
        start = StartRun(
            org=caller.org,
            run=run_named(caller.org, wanted.source, wanted.receipt, wanted.key),
            trace=caller.trace,
            plan=wanted.plan,
            workflow=wanted.workflow_id,
            version=wanted.version,
            receipt=wanted.receipt,
            cause=cause,
            input=wanted.input,
            trigger=wanted.trigger,
            mode=wanted.mode,
            org_vars=self._directory.vars_of(caller.org),
            org_limit=self._directory.limit_of(caller.org),
            dedupe=None if wanted.key is None else digest(wanted.key.encode()),
            request=wanted.request,
            actor=caller.actor,
            key_id=wanted.sealed_as,
        )
        answer = await self._dispatch.send(start)
        if answer is QUEUED:
            return await self._queued(start)
        return self._started(caller, start, answer)

    def _started(self, caller: Caller, start: StartRun, answer: Answer) -> StartedRun:
        self._note(caller, answer)
        match answer.result:
            case "duplicate":
                if start.request is not None and answer.request != start.request:
                    raise Rejected("idempotency_mismatch")
                return StartedRun(run=start.run, receipt=answer.receipt, status="duplicate")
            case "refused":
                raise _refused(answer)
            case "accepted" | "nothing":
                return StartedRun(run=start.run, receipt=start.receipt, status="accepted")

    async def _queued(self, start: StartRun) -> StartedRun:
        """INBOX has the wish. Whether an earlier one with the same key had the same request, the history tells."""
        if start.dedupe is not None:
            for stored in (await self._log.history(run_subject(start.org, start.run)))[:1]:
                first = beginning(decode_commit(stored.body).events)
                if first is not None and first.receipt != start.receipt:
                    if first.request != start.request:
                        raise Rejected("idempotency_mismatch")
                    return StartedRun(run=start.run, receipt=first.receipt, status="duplicate")
        return StartedRun(run=start.run, receipt=start.receipt, status="queued")

    async def place_of(self, org: str, run: str) -> Place:
        """Where the run's last commit lies. Raises `Rejected` when the org has no such run.

        A run so old that not even its last commit is in the log any more is known by its row.
        """
        subject = run_subject(org, run)
        last = (await self._log.last([subject])).get(subject)
        if last is not None:
            return Place(self._log.epoch, last.sequence)
        return await self._queries.place_of(org, run)

    async def cancel(self, caller: Caller, run: str, wanted: views.CancelRun) -> Wished:
        meant = await self._meant(caller.org, run)
        message = CancelRun(
            org=caller.org,
            run=run,
            trace=caller.trace,
            actor=caller.actor,
            opening=wanted.opening or meant.opening,
            reason=wanted.reason,
        )
        return await self.wish(caller, message)

    async def retry(self, caller: Caller, run: str, wanted: views.RetryRun) -> Wished:
        meant = await self._meant(caller.org, run)
        message = RetryRun(
            org=caller.org,
            run=run,
            trace=caller.trace,
            actor=caller.actor,
            opening=wanted.opening or meant.opening,
            steps=wanted.steps,
        )
        return await self.wish(caller, message)

    async def resolve(self, caller: Caller, run: str, wanted: views.ResolveDoubt) -> Wished:
        meant = await self._meant(caller.org, run)
        output = bytes(wanted.output)
        if wanted.resolution == "done":
            marks = (await self._marks.of(caller.org, run)).of_step(wanted.step)
            output, _ = await self._sealing.sealed(caller.org, run, output, marks)
        message = ResolveDoubt(
            org=caller.org,
            run=run,
            trace=caller.trace,
            actor=caller.actor,
            step=wanted.step,
            attempt=wanted.attempt or meant.doubts.get(wanted.step, 0),
            resolution=wanted.resolution,
            output=await payload_of(output, self._blobs),
        )
        return await self.wish(caller, message)

    async def signal(
        self, caller: Caller, run: str, wanted: views.SendSignal, key: str | None, request: bytes
    ) -> Wished:
        """Said again under the same key it counts once; something else under the same key is refused."""
        await self.place_of(caller.org, run)
        message = SendSignal(
            org=caller.org,
            run=run,
            trace=caller.trace,
            actor=caller.actor,
            signal=wanted.signal,
            key=receipt() if key is None else digest(key.encode()),
            request=None if key is None else digest(request),
            body=Inline(value=wanted.body),
        )
        if len(bytes(wanted.body)) <= INLINE_BYTES:
            # The owner has the plan at hand, and refuses what had to be sealed: nothing of it was stored.
            answer = await self._dispatch.ask(message)
            if answer is not None and (answer.error is None or answer.error.code != NOT_SEALED):
                return self._wished(caller, run, answer)
        marks = (await self._marks.of(caller.org, run)).signals.get(wanted.signal, ())
        body, _ = await self._sealing.sealed(caller.org, run, bytes(wanted.body), marks)
        proof = None if key is None else await self._sealing.request(caller.org, run, request, marks)
        kept = await payload_of(body, self._blobs)
        sealed = structs.replace(message, request=proof, body=kept, is_sealed=True)
        return await self.wish(caller, sealed)

    async def _meant(self, org: str, run: str) -> Meant:
        """What a wish of now is about: it may be heard twice, and late, and must not mean what comes after."""
        opening, doubts, found = 0, dict[str, int](), False
        async for page in self._histories.pages(org, run, NEWEST):
            found = True
            for told in (told for lying in page for told in told_of(lying)):
                match told.type:
                    case "run.started" | "run.reopened":
                        opening += 1
                    case "run.continued":
                        so_far = _continued(told.event)
                        opening, doubts = so_far.opening, dict(so_far.doubts)
                    case "attempt.doubted":
                        doubted = _doubted(told.event)
                        doubts[doubted.step] = doubted.attempt
        if not found:
            raise absent("run")
        return Meant(opening, doubts)

    async def wish(
        self, caller: Caller, message: CancelRun | RetryRun | ResolveDoubt | SendSignal | DecideApproval
    ) -> Wished:
        answer = await self._dispatch.send(message)
        if answer is QUEUED:
            return Wished(run=message.run, status="queued")
        return self._wished(caller, message.run, answer)

    def _wished(self, caller: Caller, run: str, answer: Answer) -> Wished:
        self._note(caller, answer)
        if answer.result == "refused":
            raise _refused(answer)
        return Wished(run=run, status="unchanged" if answer.result == "nothing" else "accepted")

    def _note(self, caller: Caller, answer: Answer) -> None:
        if answer.sequence:
            self._places.wrote(caller.org, RUNS, Place(answer.epoch, answer.sequence))


def _refused(answer: Answer) -> Problem:
    error = answer.error
    if error is None:
        return Problem("conflict")
    if error.retryable:
        return unavailable(error.message)
    return Problem(error.code, error.message)
