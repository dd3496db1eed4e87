"""Nodes that do what tests need: slow ones, broken ones, ones that touch a world."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any, ClassVar

from msgspec import Struct

from contracts.nodes import NodeSpec, Port
from executor.errors import Refused, Unreachable
from executor.forms import form
from executor.node import Context, Result


class Anything(Struct, frozen=True, kw_only=True):
    """A configuration with one field."""

    say: str = ""


class Scripted:
    """A node type `test` that does what a function says."""

    config: ClassVar = Anything

    def __init__(self, script: Callable[[Context], Awaitable[Any]], kind: str = "test", **more: Any) -> None:
        self._script = script
        self.spec = NodeSpec(
            type=kind,
            title="Test",
            help="For tests.",
            icon="flask",
            category="Tests",
            config=form(Anything),
            outputs=(Port(name="main", title="Main"), Port(name="other", title="Other")),
            **more,
        )

    async def run(self, config: Anything, context: Context) -> Result:
        brought = await self._script(context)
        return brought if isinstance(brought, Result) else Result(output=brought)


class Outside:
    """A world that counts the calls it got, answers after a while, and may fail before, during or after."""

    def __init__(self, takes: float = 1.0) -> None:
        self.calls: list[str] = []
        self.takes = takes
        self.prepared = 0
        self.fails: str = ""

    async def __call__(self, context: Context) -> Any:
        self.prepared += 1
        if self.fails == "preparing":
            raise KeyError("before")
        await asyncio.sleep(self.takes)
        async with context.effect():
            if self.fails == "connecting":
                raise Unreachable("No answer to the first knock.", touched=False)
            self.calls.append(context.key)
            if self.fails == "silent":
                raise Unreachable("It took the call and said nothing.", touched=True)
            if self.fails == "answered":
                raise Refused("It said no.", retryable=True)
            if self.fails == "raising":
                raise KeyError("during")
            await asyncio.sleep(self.takes)
        await asyncio.sleep(self.takes)
        if self.fails == "finishing":
            raise KeyError("after")
        return {"calls": len(self.calls)}

    @property
    def node(self) -> Scripted:
        return Scripted(self)
