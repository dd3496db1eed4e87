"""What a round is played on: three nodes in namespaces of their own, an installation that stands on them, and a world."""

import asyncio
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import msgspec

from deploy.data_directory import open_data_directory
from deploy.testing.cluster import OPTIONS, REPLICAS, Cluster, Place
from deploy.testing.installation import Installation, installation
from deploy.wiring import accounts
from tests.chaos.cluster.network import Network
from tests.chaos.cluster.stack import URL_VARIABLE
from tests.chaos.field import Field
from tests.chaos.opening import Opening
from tests.chaos.shapes import shapes

NODES: Final = ("a", "b", "c")
SHAPES: Final = ("straight", "timer", "doubt")
"""Steps in a row, message schedules, and calls that must not be made twice."""
_ROOT: Final = Path(__file__).parents[3]
_CLIENT, _MONITOR, _ROUTE = 4222, 8222, 6222


class ClusterField(Field):
    """A field without proxies: what lies between services and nodes is cut in the network."""

    def __init__(
        self, installed: Installation, folder: Path, seed: str, network: Network, cluster: Cluster
    ) -> None:
        super().__init__(installed, folder, seed)
        self.network = network
        self.cluster = cluster

    def open(self) -> float:
        self.world = self.helper("tests.chaos.world", str(self.folder / "world.jsonl"), self.seed)
        self._world_port = int(self.world.line())
        seconds = self.installed.start()
        opening, every = Opening(self.installed), shapes(f"http://127.0.0.1:{self._world_port}")
        self.targets = tuple(opening.target(shape) for shape in every if shape.name in SHAPES)
        return seconds


@contextmanager
def cluster_field(seed: str) -> Iterator[ClusterField]:
    """Everything on it is stopped and removed afterwards, also after Ctrl-C.

    `cluster.start` and `open` are the caller's."""
    network = Network(NODES)
    try:
        network.open()
        with installation(
            up=(sys.executable, "-m", "tests.chaos.cluster.stack"),
            environ_too={"PYTHONPATH": str(_ROOT)},
            egress_allow="127.0.0.1/32:*",
            replicas=str(REPLICAS),
        ) as installed:
            with open_data_directory(installed.data) as data:
                options = msgspec.structs.replace(OPTIONS, accounts=accounts(data))
            places = {node: _place(network, node) for node in NODES}
            cluster = Cluster(installed.data.parent / "nodes", places, options)
            installed.environ[URL_VARIABLE] = cluster.url
            folder = installed.data.parent / "chaos"
            folder.mkdir()
            played = ClusterField(installed, folder, seed, network, cluster)
            try:
                yield played
            finally:
                network.heal()
                played.close()
                installed.stop()
                asyncio.run(cluster.close())  # Last: services that lost it would wait for it to come back.
    finally:
        network.close()


def _place(network: Network, node: str) -> Place:
    host = network.address(node)
    return Place(
        client=f"{host}:{_CLIENT}",
        monitor=f"{host}:{_MONITOR}",
        route=f"{host}:{_ROUTE}",
        within=network.within(node),
    )
