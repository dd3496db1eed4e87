"""What goes wrong in a cluster (F22, F8): kills, cuts of every form, a bad line, restarts, a lost disk. Each is over when `strike` returns."""

import asyncio
import random
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Final

from msgspec import Struct

from contracts import subjects
from tests.chaos.cluster.field import NODES, ClusterField
from tests.chaos.cluster.network import HUB

_STREAMS: Final = (subjects.RUNS, subjects.RUNS, subjects.INBOX, subjects.TASKS, subjects.EFFECTS)
_DOWN_SECONDS: Final = (0.5, 3.0)
_HEALTHY_SECONDS: Final = 180.0
_LOOK_SECONDS: Final = 0.2
_LOST_SHARE: Final = 0.3


class DidNotHeal(Exception):
    """The nodes do not find together again although nothing stands between them."""


class Turn(Struct, frozen=True, kw_only=True):
    """What a fault is given: chance, and for how long what is cut stays cut."""

    chance: random.Random
    seconds: float


Strike = Callable[[ClusterField, Turn], Awaitable[dict[str, Any]]]
"""Gives what there is to say about it."""


async def leader_kill(field: ClusterField, turn: Turn) -> dict[str, Any]:
    """kill -9 of whoever leads a stream."""
    stream = turn.chance.choice(_STREAMS)
    name = await field.cluster.leader_of(stream) or turn.chance.choice(NODES)
    await field.cluster.nodes[name].kill()
    await asyncio.sleep(turn.chance.uniform(*_DOWN_SECONDS))
    field.cluster.nodes[name].start()
    return {"stream": stream, "node": name}


async def minority(field: ClusterField, turn: Turn) -> dict[str, Any]:
    """One node is alone, also for its clients; most often the one that leads RUNS."""
    name = await _leader_or_any(field, turn)
    field.network.isolate(name, hub=True)
    await asyncio.sleep(turn.seconds)
    return {"node": name}


async def minority_with_clients(field: ClusterField, turn: Turn) -> dict[str, Any]:
    """One node has lost the others and keeps its clients: it goes on answering them for a while."""
    name = await _leader_or_any(field, turn)
    field.network.isolate(name, hub=False)
    await asyncio.sleep(turn.seconds)
    return {"node": name}


async def unplugged(field: ClusterField, turn: Turn) -> dict[str, Any]:
    """A node has no carrier."""
    name = await _leader_or_any(field, turn)
    field.network.unplug(name)
    await asyncio.sleep(turn.seconds)
    return {"node": name}


async def majority(field: ClusterField, turn: Turn) -> dict[str, Any]:
    """Each node is alone with its clients: nobody has a majority, nothing may be accepted."""
    for name in NODES:
        field.network.isolate(name, hub=False)
    await asyncio.sleep(turn.seconds)
    return {}


async def bridge(field: ClusterField, turn: Turn) -> dict[str, Any]:
    """Two nodes lose sight of one another; the third one sees both."""
    one, other = turn.chance.sample(NODES, 2)
    field.network.cut(one, other)
    await asyncio.sleep(turn.seconds)
    return {"between": [one, other]}


async def one_way(field: ClusterField, turn: Turn) -> dict[str, Any]:
    """What one node says does not reach the others; it hears them."""
    name = await _leader_or_any(field, turn)
    for other in NODES:
        if other != name:
            field.network.cut_way(name, other)
    await asyncio.sleep(turn.seconds)
    return {"node": name}


async def clients_cut(field: ClusterField, turn: Turn) -> dict[str, Any]:
    """The services do not reach one node; the nodes reach one another."""
    name = turn.chance.choice(NODES)
    field.network.cut(HUB, name)
    await asyncio.sleep(turn.seconds)
    return {"node": name}


async def bad_line(field: ClusterField, turn: Turn) -> dict[str, Any]:
    """A node loses 30 % of the frames that it sends and is sent (F8)."""
    name = await _leader_or_any(field, turn)
    field.network.lose(name, _LOST_SHARE, str(turn.chance.random()))
    await asyncio.sleep(turn.seconds)
    return {"node": name}


async def rolling_restart(field: ClusterField, _turn: Turn) -> dict[str, Any]:
    """One node after the other is stopped in order and started again, as an upgrade would."""
    for name in NODES:
        await field.cluster.nodes[name].stop()
        field.cluster.nodes[name].start()
        await until_healthy(field)
    return {}


async def lost_disk(field: ClusterField, turn: Turn) -> dict[str, Any]:
    """kill -9 of a node, and its store is gone: it comes back with nothing."""
    name = turn.chance.choice(NODES)
    await field.cluster.nodes[name].wipe()
    field.cluster.nodes[name].start()
    return {"node": name}


class Kind(Struct, frozen=True, kw_only=True):
    """One kind of fault."""

    strike: Strike
    is_partition: bool = False
    majority_lost: bool = False
    """While it lasts nothing may be accepted."""


KINDS: Final[Mapping[str, Kind]] = {
    "leader_kill": Kind(strike=leader_kill),
    "minority": Kind(strike=minority, is_partition=True),
    "minority_with_clients": Kind(strike=minority_with_clients, is_partition=True),
    "unplugged": Kind(strike=unplugged, is_partition=True),
    "majority": Kind(strike=majority, is_partition=True, majority_lost=True),
    "bridge": Kind(strike=bridge, is_partition=True),
    "one_way": Kind(strike=one_way, is_partition=True),
    "clients_cut": Kind(strike=clients_cut, is_partition=True),
    "bad_line": Kind(strike=bad_line),
    "rolling_restart": Kind(strike=rolling_restart),
    "lost_disk": Kind(strike=lost_disk),
}


async def until_healthy(field: ClusterField) -> None:
    """Every node runs, and has every copy that is its own. Raises `DidNotHeal`."""
    try:
        async with asyncio.timeout(_HEALTHY_SECONDS):
            while not await field.cluster.healthy():
                await asyncio.sleep(_LOOK_SECONDS)
    except TimeoutError:
        said = {name: await node.look("/healthz") for name, node in field.cluster.nodes.items()}
        raise DidNotHeal(f"after {_HEALTHY_SECONDS:g} s without a fault the nodes say {said}") from None


async def _leader_or_any(field: ClusterField, turn: Turn) -> str:
    if turn.chance.random() < 0.6:
        return await field.cluster.leader_of(turn.chance.choice(_STREAMS)) or turn.chance.choice(NODES)
    return turn.chance.choice(NODES)
