"""Returns what it is given: for benchmarks, tests and first steps."""

from typing import Annotated, ClassVar

from msgspec import Meta, Raw, Struct, field

from contracts.nodes import NodeSpec
from executor.forms import form
from executor.node import Context, Result


class Echo(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    value: Annotated[
        Raw, Meta(title="Value", description="Anything; it becomes the step's output as it is.")
    ] = field(default_factory=lambda: Raw(b"null"))


class EchoNode:
    """Touches nothing, so it may be repeated at will."""

    spec: ClassVar = NodeSpec(
        type="echo",
        title="Echo",
        help="Returns its value unchanged, by way of an executor.",
        icon="repeat",
        category="Tools",
        repeat="yes",
        config=form(Echo),
        timeout_s=60,
    )
    config: ClassVar = Echo
    keeps_sealed: ClassVar = True

    async def run(self, config: Echo, _context: Context) -> Result:
        return Result(output=config.value)


node = EchoNode()
