"""The gateway's questions: would this workflow run, what was a run's state then, does its history replay.

Asked by NATS request-reply, so that the engine which would run a graph is the one that accepts it. An answer larger than a
message may be lies in the object store, and its reference is the answer.
"""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import AsyncExitStack
from typing import Any, Final, Protocol

import structlog
from msgspec import Raw

from chassis.archive import LAST_SEGMENT, Lying, Since
from chassis.expressions import Language
from chassis.ports import Away, Blobs, Signals
from contracts.cases import Given, Trial
from contracts.codec import Decoder, Malformed, Unknown, decode_commit, encode
from contracts.errors import Failure
from contracts.limits import INLINE_BYTES
from contracts.messages import CompileAnswer, CompileRequest, InspectRequest
from contracts.nodes import NodeSpec
from contracts.payloads import Inline, Payload
from contracts.subjects import COMPILE, INSPECT
from orchestrator.compiler import compile_workflow, encoded
from orchestrator.held_back import HeldBack
from orchestrator.history import replay, state_at
from orchestrator.imported import Imported, announced, types_in, workers_in
from orchestrator.narrowing import narrowed
from orchestrator.run import Run, evolve, waiting_for
from orchestrator.sources import PLAN_TYPE, Sources

log = structlog.get_logger()

GROUP: Final = "orchestrators"
_compile_request: Final = Decoder[CompileRequest](CompileRequest)
_inspect_request: Final = Decoder[InspectRequest](InspectRequest)
_given: Final = Decoder[Given](Given)


class Catalogue(Protocol):
    """What executors announced."""

    async def specs(self) -> Mapping[str, NodeSpec]:
        """By type (its newest version) and by `type@version`."""
        ...


class Histories(Protocol):
    """Every commit of a run, wherever it lies."""

    async def commits(self, org: str, run: str) -> list[bytes]: ...

    def pages(self, org: str, run: str, since: Since) -> AsyncIterator[Sequence[Lying]]: ...


class Questions:
    """Answers for every orchestrator of the group."""

    def __init__(  # noqa: PLR0913  # The composition root names every port once.
        self,
        *,
        signals: Signals,
        blobs: Blobs,
        catalogue: Catalogue,
        histories: Histories,
        sources: Sources,
        language: Language,
        held_back: HeldBack | None = None,
    ) -> None:
        """`held_back`: None where nothing is ever held."""
        self._signals = signals
        self._blobs = blobs
        self._catalogue = catalogue
        self._histories = histories
        self._sources = sources
        self._language = language
        self._held_back = held_back

    async def serve(self) -> None:
        """Answer for ever, several at a time."""
        async with asyncio.TaskGroup() as group, AsyncExitStack() as listening:

            def answering(
                question: Callable[[bytes], Awaitable[object]],
            ) -> Callable[[str, bytes, Callable[[bytes], None]], None]:
                return lambda _subject, body, answer: _start(group, self._answer(question, body, answer))

            await listening.enter_async_context(
                self._signals.listen(COMPILE, answering(self._compile), GROUP)
            )
            await listening.enter_async_context(
                self._signals.listen(INSPECT, answering(self._inspect), GROUP)
            )
            await asyncio.Event().wait()

    async def _answer(
        self, question: Callable[[bytes], Awaitable[object]], body: bytes, answer: Callable[[bytes], None]
    ) -> None:
        """An unanswered question is asked again by its caller's patience, or told as 503."""
        try:
            said = encode(await question(body))
        except Malformed as malformed:
            said = encode(CompileAnswer(error=Failure(code="malformed", message=str(malformed))))
        except Away as away:
            log.warning("question.unanswered", reason=str(away))
            return
        except Exception:  # One question must not end everybody's runs: it stays unanswered.
            log.exception("question.failed")
            return
        answer(said)

    async def _compile(self, body: bytes) -> CompileAnswer:
        request = _compile_request(body)
        imported = Imported([(each, types_in(await self._blobs.get(each.types))) for each in request.imports])
        workers = announced([workers_in(await self._blobs.get(each)) for each in request.workers])
        plan = compile_workflow(
            bytes(request.definition),
            {**await self._catalogue.specs(), **imported.specs, **workers},
            org=request.org,
            workflow=request.workflow,
            version=request.version,
            language=self._language,
        )
        if isinstance(plan, list):
            return CompileAnswer(faults=tuple(plan))
        plan = imported.planned(plan)
        outline = None
        if request.trial is not None:
            told = narrowed(plan, request.trial.selection, await self._given(request.trial))
            if isinstance(told, list):
                return CompileAnswer(faults=tuple(told))
            plan, outline = told.plan, told.outline
        stored, name = encoded(plan)
        if request.keep:
            await self._blobs.put(stored, PLAN_TYPE)
        return CompileAnswer(plan=name, outline=outline)

    async def _given(self, trial: Trial) -> Given:
        given = trial.given
        return _given(given.value if isinstance(given, Inline) else await self._blobs.get(given))

    async def _inspect(self, body: bytes) -> Payload:
        request = _inspect_request(body)
        try:
            told = encode(await self._told(request))
        except Unknown as unknown:
            told = encode({"unknown": unknown.kind, "needs_release": unknown.needs_release})
        if len(told) > INLINE_BYTES:
            return await self._blobs.put(told)
        return Inline(value=Raw(told))

    async def _told(self, request: InspectRequest) -> dict[str, Any]:
        org, run_id = request.org, request.run
        run = await self._state(org, run_id, LAST_SEGMENT if request.at is None else request.at)
        waiting = waiting_for(run)
        if self._held_back is not None and request.at is None:
            waiting = await self._held_back.told(run, waiting)
        told: dict[str, Any] = {"state": Raw(encode(run)), "waiting_for": waiting}
        if request.replay:
            programs = await self._sources.fetched_programs(run.plan) if run.plan else None
            graph = programs.graph if programs else None
            commits = [decode_commit(stored) for stored in await self._histories.commits(org, run_id)]
            told["divergence"] = replay(org, run_id, commits, graph)
        return told

    async def _state(self, org: str, run_id: str, event: int) -> Run:
        """The run after so many events: from the seam before it on. Where that cannot be read, from the beginning."""
        run: Run | None = None
        async for page in self._histories.pages(org, run_id, Since(events=event)):
            if run is None and page[0].version > 1:
                run = await self._sources.restored_at(org, run_id, page[0].body)
                if run is None:
                    break
            run = run or Run.new(org, run_id)
            for lying in page:
                run = _further(run, lying, event)
            await asyncio.sleep(0)  # Others decide meanwhile.
            if page[-1].before >= event:
                return run
        else:
            return run or Run.new(org, run_id)
        commits = [decode_commit(stored) for stored in await self._histories.commits(org, run_id)]
        return state_at(org, run_id, commits, event)


def _further(run: Run, lying: Lying, event: int) -> Run:
    """The run after one more commit, as far as it lies before so many events."""
    commit = decode_commit(lying.body)
    for recorded in commit.events[: max(0, event - lying.before)]:
        run = evolve(run, recorded, commit.time)
    return run


def _start(group: asyncio.TaskGroup, work: Any) -> None:
    group.create_task(work)
