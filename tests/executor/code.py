"""Attempts at code nodes, with real engines."""

import asyncio
import json
from typing import Any

from contracts.logs import LogLine
from contracts.messages import Outcome, StepBroken, StepDone
from contracts.payloads import Inline
from executor.attempt import Attempt
from executor.sandbox.sandbox import Sandbox
from tests.executor.fakes import World, task


class Tried:
    """What came of one attempt."""

    def __init__(self, outcome: Outcome | None, lines: list[LogLine]) -> None:
        self.outcome = outcome
        self.lines = lines

    @property
    def output(self) -> Any:
        assert isinstance(self.outcome, StepDone), self.outcome
        assert isinstance(self.outcome.output, Inline)
        return json.loads(bytes(self.outcome.output.value))

    @property
    def error(self) -> tuple[str, str]:
        assert isinstance(self.outcome, StepBroken), self.outcome
        return self.outcome.error.code, self.outcome.error.message

    @property
    def retryable(self) -> bool:
        assert isinstance(self.outcome, StepBroken), self.outcome
        return self.outcome.error.retryable

    @property
    def said(self) -> list[tuple[str, Any, str]]:
        """What the code itself wrote: level, line, text."""
        return [(line.level, line.fields["line"], line.text) for line in self.lines if "line" in line.fields]

    @property
    def everything(self) -> str:
        """All that anybody will ever see of it."""
        return repr(self.outcome) + repr(self.lines)


async def tried(
    sandbox: Sandbox,
    language: str,
    code: str,
    given: Any = None,
    *,
    about: dict[str, Any] | None = None,
    **limits: Any,
) -> Tried:
    """Make one attempt in real time. `about`: what is different about its task."""
    world = World()
    world.sandbox = sandbox
    work = task({"code": code, "input": given, **limits}, node_type=f"code.{language}", **(about or {}))
    hearing = asyncio.get_running_loop().create_task(world.journal.run())
    try:
        with world.means() as means:
            outcome = await Attempt(work, means).make(doubtful=False)
        await world.journal.drained(5)
    finally:
        hearing.cancel()
    return Tried(outcome, [line for record in world.said for line in record.lines])
