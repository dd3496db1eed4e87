"""Asks the engine whether it could run a workflow: the one that would run it is the one that accepts it."""

from collections.abc import Iterable, Sequence
from typing import Final, Protocol

import msgspec
from msgspec import Raw, Struct

from chassis.edge.problems import Problem, unavailable
from chassis.ports import Away, Signals
from contracts.apis import ApiImport
from contracts.cases import Outline, Trial
from contracts.codec import Decoder, Malformed, encode
from contracts.limits import KIB, WORKFLOW_BYTES
from contracts.messages import CompileAnswer, CompileRequest
from contracts.payloads import Blob
from contracts.subjects import COMPILE
from contracts.workflows import Fault

SECONDS: Final = 5.0
LARGEST: Final = WORKFLOW_BYTES - 64 * KIB
"""What fits into one request on the wire with everything around it."""

_answer: Final = Decoder[CompileAnswer](CompileAnswer)


class Compiled(Struct, frozen=True, kw_only=True):
    """A plan's hash, or every fault."""

    plan: str | None
    faults: Sequence[Fault]
    outline: Outline | None = None
    """Of a workflow that is tried out."""


class Compiler(Protocol):
    async def compile(self, request: CompileRequest) -> Compiled: ...


class Imports(Protocol):
    """The org's own node types, as far as a workflow names them."""

    async def imports(self, org: str, named: Iterable[tuple[str, int | None]]) -> Sequence[ApiImport]: ...


class Announced(Protocol):
    """The node types of the org's workers outside."""

    def named(self, org: str, kinds: Iterable[str]) -> Sequence[Blob]: ...


class RemoteCompiler:
    """The orchestrator's compiler, by request and reply."""

    def __init__(self, signals: Signals, imports: Imports, announced: Announced) -> None:
        self._signals = signals
        self._imports = imports
        self._announced = announced

    async def compile(self, request: CompileRequest) -> Compiled:
        """Raises `Problem` when no orchestrator answers: nothing was published."""
        definition = bytes(request.definition)
        if len(definition) > LARGEST:
            raise Problem("too_large", f"A workflow may have {LARGEST} bytes at the most.")
        named = named_types(definition)
        imports = await self._imports.imports(request.org, named)
        workers = self._announced.named(request.org, [kind for kind, _ in named])
        request = msgspec.structs.replace(request, imports=tuple(imports), workers=tuple(workers))
        try:
            answer = _answer(await self._signals.request(COMPILE, encode(request), SECONDS))
            faults = msgspec.convert(answer.faults, tuple[Fault, ...])
        except Away:
            raise unavailable("No orchestrator answers, so nothing can be compiled.") from None
        except (Malformed, msgspec.ValidationError) as error:
            raise unavailable("The orchestrator answers in another release's words.") from error
        if answer.error is not None:
            raise Problem(answer.error.code, answer.error.message)
        return Compiled(plan=answer.plan, faults=faults, outline=answer.outline)


def request_of(  # What is asked for.
    org: str, workflow: str, version: int, definition: bytes, *, keep: bool, trial: Trial | None = None
) -> CompileRequest:
    return CompileRequest(
        org=org, workflow=workflow, version=version, definition=Raw(definition), keep=keep, trial=trial
    )


def named_types(definition: bytes) -> list[tuple[str, int | None]]:
    """The node types that a workflow names, as far as it can be read: its faults are the compiler's to tell."""
    try:
        drawn = msgspec.json.decode(definition, type=_Drawn)
    except msgspec.DecodeError:
        return []
    named = []
    for node in drawn.nodes:
        try:
            read = msgspec.json.decode(node, type=_Node)
        except msgspec.DecodeError:
            continue
        named.append((read.type, read.type_version))
    return named


class _Drawn(Struct):
    nodes: list[Raw]


class _Node(Struct):
    type: str
    type_version: int | None = None
