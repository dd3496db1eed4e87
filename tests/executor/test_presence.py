"""An executor tells what it has, and hears that it shall leave."""

import asyncio

from contracts.codec import Decoder, encode
from contracts.pools import DrainExecutor, ExecutorHere
from contracts.subjects import drain
from executor.presence import Presence
from tests.executor.fakes import World, simulated, task, until
from tests.executor.nodes import Outside

_decode = Decoder[ExecutorHere](ExecutorHere)


class Heard:
    """What was said by core NATS, and who listens."""

    def __init__(self, world: World) -> None:
        self.said: list[tuple[str, ExecutorHere]] = []
        self._world = world
        self.publish_on = world.owner.publish
        self.listen = world.owner.listen

    def publish(self, subject: str, body: bytes, headers: object = None) -> None:
        self.said.append((subject, _decode(body)))


def test_an_executor_tells_every_second_what_it_has_and_leaves_when_it_is_asked_to() -> None:
    world = World(Outside().node, capacity=5)
    heard = Heard(world)

    async def main() -> None:
        async with world.executor() as running:
            presence = Presence(heard, running.shell, "e-1", {"zone": "a"})  # type: ignore[arg-type]  # Nobody is asked here.
            telling = asyncio.get_running_loop().create_task(presence.run())
            world.source.put(task(node_type="test"))
            await asyncio.sleep(0.5)
            heard.publish_on(drain("e-1"), b"nonsense")
            heard.publish_on(drain("e-2"), encode(DrainExecutor(executor="e-2")))
            await asyncio.sleep(2)
            assert not running.shell.draining
            heard.publish_on(drain("e-1"), encode(DrainExecutor(executor="e-1")))
            assert running.shell.draining
            assert heard.said[-1][1].draining, "it says so at once"
            assert running.serving is not None
            await until(running.serving.done)
            telling.cancel()

    simulated(main())
    assert len(heard.said) >= 4
    subject, first = heard.said[0]
    assert subject == "here.default"
    assert first == ExecutorHere(
        executor="e-1", pool="default", capacity=5, under_way=0, labels={"zone": "a"}
    )
    assert len(world.outcomes) == 1
