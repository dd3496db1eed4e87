"""The outside of a simulated installation: a world that does what it is asked, and sometimes does not say so."""

import asyncio
from contextlib import suppress
from typing import Any, Final, Literal

from msgspec import Struct

from chassis.ports import Ambiguous, Away
from chassis.testing.lives import current
from chassis.testing.world import World
from contracts.codec import Decoder
from contracts.messages import Task
from contracts.nodes import NodeSpec, Repeat
from contracts.payloads import Inline
from executor.errors import Refused, StepError, Unreachable
from executor.node import Context, Result
from executor.registry import Installed, installed
from orchestrator.paths import numbers
from tests.promises.evidence import Effect
from tests.simulation.polling import FEED, Feed

Behaviour = Literal[
    "ok", "slow", "big", "busy", "refuse", "early", "deaf", "hang", "vanish", "drop", "lose", "raise"
]
DEAF_SECONDS: Final = 7.0
"""Longer than an attempt may take, shorter than a process that is asked to stop may take."""
BIG: Final = 70_000


class Call(Struct, frozen=True, kw_only=True):
    """The configuration of a call: what the world does at the first attempt, at the second, and so on."""

    script: tuple[Behaviour, ...] = ("ok",)
    cursor: int | None = None
    """Of one that looks for something: the last that was seen."""
    gives: Any = None
    """What it answers; None: something that nobody else is told."""

    def at(self, attempt: int) -> Behaviour:
        return self.script[attempt - 1] if attempt <= len(self.script) else "ok"


_call: Final = Decoder[Call](Call)


class Outside:
    """What calls reach. It records every effect with the key that came with it."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._feed = Feed(world)
        self.effects: list[Effect] = []
        self.by_key: dict[str, Effect] = {}

    async def call(self, task: Task, key: str, behaviour: Behaviour) -> Any:
        """The world's answer. Raises `StepError`; `touched` where nobody can know whether the effect happened."""
        process = repr(current())
        if behaviour in ("slow", "hang"):
            await asyncio.sleep(1 + 2 * self._world.random.random())
        if behaviour == "vanish":
            await asyncio.Event().wait()
        if behaviour in ("lose", "busy", "refuse"):
            await self._world.moment()
            raise _NO[behaviour]
        try:
            result = await self._world.operation(lambda: self._act(task, key, behaviour, process))
        except Ambiguous as unheard:
            raise Unreachable("No answer came.", touched=True) from unheard
        except Away as away:
            raise Unreachable("Nobody there.") from away
        if behaviour == "hang":
            await asyncio.Event().wait()
        if behaviour == "drop":
            raise Unreachable("The connection broke.", touched=True)
        if behaviour == "raise":
            raise RuntimeError("the node's own defect")
        return result

    def _act(self, task: Task, key: str, behaviour: Behaviour, process: str) -> Any:
        known = self.by_key.get(key)
        if task.repeat == "by-key" and known is not None:
            return known.result
        effect = Effect(
            at=self._world.loop.time(),
            run=task.run,
            step=task.step,
            attempt=task.attempt,
            key=key,
            repeat=task.repeat,
            process=process,
            result=self._answer(task, behaviour),
            org=task.org,
        )
        self.effects.append(effect)
        self.by_key[key] = effect
        return effect.result

    def _answer(self, task: Task, behaviour: Behaviour) -> Any:
        assert isinstance(task.config, Inline)
        config = _call(task.config.value)
        if task.node_type == FEED:
            return self._feed.page(config.cursor)
        if config.gives is not None and behaviour != "big":
            return config.gives
        text = f"{task.step}: effect {len(self.effects)} of all"
        return text + "." * BIG if behaviour == "big" else text


_NO: Final[dict[str, StepError]] = {
    "lose": Unreachable("No answer came.", touched=True),
    "busy": Unreachable("Come again.", retry_after_s=0.5),
    "refuse": Refused("No."),
}


class CallNode:
    """Calls the world by way of the effect ledger."""

    config = Call

    def __init__(self, outside: Outside, node_type: str, repeat: Repeat) -> None:
        self.spec = NodeSpec(
            type=node_type,
            title="Call",
            help="",
            icon="x",
            category="x",
            repeat=repeat,
            config={"type": "object"},
        )
        self._outside = outside

    async def run(self, config: Call, context: Context) -> Result:
        task = context.task
        behaviour = config.at(task.attempt + sum(numbers(task.step)))  # Each item fares in its own way.
        if behaviour == "early":
            raise Refused("No, and nothing was asked of the world.")
        if behaviour == "deaf":
            await _deaf(DEAF_SECONDS)
        async with context.effect():
            answer = await self._outside.call(task, context.key, behaviour)
        return Result(output=answer)


async def _deaf(seconds: float) -> None:
    """Code that does not hear that it is told to stop."""
    loop = asyncio.get_running_loop()
    over = loop.time() + seconds
    while loop.time() < over:
        with suppress(asyncio.CancelledError):
            await asyncio.sleep(over - loop.time())


NODE_TYPES: Final[dict[Repeat, str]] = {"no": "call.once", "yes": "call.again", "by-key": "call.keyed"}


def nodes(outside: Outside) -> dict[str, Installed]:
    """The three kinds of call, and the one that looks, as an executor's registry holds them."""
    made: list[Any] = [CallNode(outside, node_type, repeat) for repeat, node_type in NODE_TYPES.items()]
    made.append(CallNode(outside, FEED, "yes"))
    return {node.spec.type: installed(node) for node in made}
