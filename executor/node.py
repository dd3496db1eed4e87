"""What a node is, and what it is given: the page for authors of node types, ours and plug-ins'.

A module in `executor/nodes/`, or an entry point of the group `automateos.nodes`, offers an object `node` that fits `Node`.
A node is one object for the whole process and keeps nothing between attempts.
"""

from collections.abc import Container, Sequence
from contextlib import AbstractAsyncContextManager
from datetime import datetime
from typing import Annotated, Any, Protocol, TypeVar

from msgspec import Meta, Struct

from chassis.egress import Credential, Opened, Request, Response
from contracts.limits import Id, PortName
from contracts.logs import LogLevel
from contracts.messages import Task
from contracts.nodes import NodeSpec
from contracts.payloads import Blob
from executor.outputs import Binary
from executor.relay import Relay
from executor.sandbox.sandbox import Sandbox

__all__ = ["Binary", "Context", "Node", "Result", "SecretField", "SecretReference"]


class SecretReference(
    Struct, frozen=True, kw_only=True, rename={"id": "$secret"}, forbid_unknown_fields=True
):
    """Names a stored secret. Its value is opened for one attempt at a time and shown nowhere."""

    id: Id


SecretField = Annotated[SecretReference | None, Meta(extra_json_schema={"x-secret": True})]
"""The type of a configuration field that holds a secret reference."""


class Result(Struct, frozen=True, kw_only=True):
    """What an attempt brought. `output`: anything that JSON can say, `msgspec.Raw` and `Binary` included."""

    output: Any = None
    ports: tuple[PortName, ...] = ("main",)


class Outside(Protocol):
    """The guarded way out: `chassis.egress.Egress`, and what stands before it to be told of each call."""

    async def request(self, request: Request) -> Response:
        """Make a call and return its complete answer, whatever its status. Raises `EgressError`."""
        ...

    async def open_tcp(
        self,
        host: str,
        port: int,
        *,
        usual: Container[int],
        credential: Credential | None,
        timeout_s: float = 10.0,
    ) -> Opened:
        """Connect to a checked address, for protocols other than HTTP. `usual`: the ports that are open at public addresses."""
        ...


class _Means(Protocol):
    """What an attempt has from the executor, and hands on to its node."""

    @property
    def task(self) -> Task: ...

    @property
    def key(self) -> str:
        """The idempotency key: the same for every attempt at this step."""
        ...

    @property
    def egress(self) -> Outside:
        """The one way to the outside. Its `EgressError` may be left to the executor."""
        ...

    @property
    def relay(self) -> Relay:
        """The mail server that this instance hands its mail to."""
        ...

    @property
    def sandbox(self) -> Sandbox:
        """Where code runs that came with the configuration."""
        ...

    @property
    def now(self) -> datetime: ...

    def effect(self) -> AbstractAsyncContextManager[None]:
        """Enclose the outside call, from the last moment before its first byte to its answer.

        Where repeating is not safe, whatever fails in it without `touched=False` leaves the step in doubt; so do a crash
        and the end of the attempt's time after it, because the call has acted and its answer is lost. A `StepError` after
        it is the node's own word about that answer, and what fails before it a plain failure.
        """
        ...

    async def open(self, reference: SecretReference) -> Credential:
        """The secret's value and its allowed hosts, for this attempt's memory only."""
        ...

    async def fetch(self, blob: Blob) -> bytes:
        """The bytes of a stored value."""
        ...


class Given(_Means, Protocol):
    """An attempt, as the executor hands it over."""

    config: bytes
    """The configuration as JSON, with sealed values open and links in place of their marks."""
    unsealed: Sequence[str]
    """What must not be seen of those values."""

    @property
    def proofs(self) -> list[str]:
        """What must not be seen of those links."""
        ...


class Context(_Means, Protocol):
    """What a node may use during one attempt."""

    def log(self, text: str, level: LogLevel = "info", **fields: Any) -> None:
        """Say something to whoever looks at the run: `context.log("answered", status=200, ms=35)`.

        Returns at once and never fails. The lines are at `GET /runs/{run}/logs` for some days; an attempt keeps so many of
        them (`LOG_LINES`, `LOG_BYTES`), and a full disk keeps none, so nothing may depend on them. What `open` gave and what
        the run sealed is blanked out; put no other secret in.
        """
        ...

    def unsaid(self, lines: int, chars: int) -> None:
        """So much was let fall before it came to `log`: it is told with what the attempt's bound takes."""
        ...


C_contra = TypeVar("C_contra", bound=Struct, contravariant=True)


class Node(Protocol[C_contra]):
    """One node type.

    It may also have `repeat(config) -> Repeat`, when the promise about repeating depends on the configuration, and
    `keeps_sealed = True`, when sealed values and marks of links in its configuration shall stay because they go into its output.
    """

    @property
    def spec(self) -> NodeSpec: ...

    @property
    def config(self) -> type[Struct]:
        """The type of the configuration; `spec.config` is `executor.forms.form` of it."""
        ...

    async def run(self, config: C_contra, context: Context, /) -> Result:
        """Make one attempt. Raise `executor.errors.StepError` for what may be expected to go wrong."""
        ...
