"""What stands around the services in a simulated installation, in place of what is not simulated."""

from collections.abc import Callable, Mapping
from datetime import datetime
from typing import Any

from msgspec import Raw, Struct

from chassis.secret import HmacSecret, Secret
from chassis.testing.world import World
from chassis.vault import OpenedSecret, VaultAway
from contracts.codec import decode_json, encode
from contracts.errors import Failure
from contracts.gates import FlowLimit, SlotWanted
from contracts.payloads import Inline, Payload
from contracts.plans import PlanNode
from ingress.hooks import Hooks
from orchestrator.control import Called, Outcome
from orchestrator.inputs import Incoming, Values, map_output
from orchestrator.memory import Known, Memory
from orchestrator.passing import wanted
from orchestrator.performing import perform
from orchestrator.published import NOT_LOOKED, Workflows, looked_up
from orchestrator.run import Graph, Run
from tests.orchestrator.stories import AsWritten
from tests.simulation.clients import SECRET
from tests.simulation.polling import FEED
from tests.simulation.rarities import NO_KEY


class Fetched(AsWritten):
    """Every field of a configuration is its own value; stored values are read where a node passes them on."""

    def __init__(
        self,
        graph: Graph,
        values: Mapping[str, bytes | None],
        is_broken: Callable[[], bool] = lambda: False,
        workflows: Workflows = NOT_LOOKED,
    ) -> None:
        super().__init__(graph)
        self._values = Values(values)
        self._is_broken = is_broken
        self._workflows = workflows

    def config(self, run: Run, path: str, node: PlanNode) -> Payload | Failure:
        if node.type != FEED:
            return super().config(run, path, node)
        given = decode_json(run.input.value) if isinstance(run.input, Inline) else {}
        return Inline(value=Raw(encode({**node.config, "cursor": given["cursor"]})))

    def control(self, run: Run, path: str, node: PlanNode, at: datetime) -> Outcome | Failure:
        if node.config.get("raises") and self._is_broken():
            raise RuntimeError("a defect of this release")
        outcome = perform(node, node.config, Incoming(self._graph, run, path, self._values), at)
        return looked_up(outcome, run.org, self._workflows, node) if isinstance(outcome, Called) else outcome

    def handler(self, run: Run, called: Called) -> Called | Failure:
        return looked_up(called, run.org, self._workflows)

    def priority(self, run: Run) -> int | Failure:
        """By the run; now and then nobody can tell it."""
        told = int(run.id[1], 16)
        return told % 10 if told else Failure(code="expression", message="No.", field="/flow/priority")

    def slot(self, run: Run, limit: FlowLimit) -> SlotWanted | Failure:
        """The key of a gate that has one is one of two, by the run."""
        if limit.per == NO_KEY:
            return Failure(code="expression", message="There is no such field.", field="/flow/limits/0/per")
        key = str(int(run.id[0], 16) % 2) if limit.per else ""
        return wanted(run, limit, self._graph.plan, key)

    def passed_on(self, run: Run, path: str, _node: PlanNode) -> Payload | Failure:
        return Incoming(self._graph, run, path, self._values).payload()

    def gathered(self, run: Run, path: str, _node: PlanNode) -> Payload | Failure:
        return map_output(run.items[path], self._values)


class Program(Struct, frozen=True):
    """A plan whose configurations are what they say."""

    graph: Graph
    is_broken: Callable[[], bool]

    def evaluator(
        self, values: Mapping[str, bytes | None], _answers: object, workflows: Workflows
    ) -> Fetched:
        return Fetched(self.graph, values, self.is_broken, workflows)


class Vault:
    """One secret that signs webhooks; now and then it cannot be read."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._secret = OpenedSecret(
            kind="hmac", values=(HmacSecret(key=Secret(SECRET)),), allowed_hosts=(), revision=1
        )

    async def open(self, org: str, secret_id: str) -> OpenedSecret:
        await self._world.moment()
        if self._world.strikes("operation"):
            raise VaultAway
        return self._secret

    async def sealer(self, org: str, run: str) -> Any:
        raise VaultAway

    async def opener(self, org: str, run: str, key_id: str) -> Any:
        raise VaultAway


class FewHooks(Hooks):
    """Stores one record after the other: sixty-four tasks in every life of an ingress would be most of a schedule."""

    async def run(self) -> None:
        await self._store_each()


class Unlimited:
    """A rate limit that nobody reaches."""

    async def allow(self, key: str, per_minute: int) -> bool:
        return True

    def seconds_left(self) -> int:
        return 1


class Forgetful(Memory):
    """A memory that now and then believes what was so one commit earlier."""

    def __init__(self, world: World, room: int) -> None:
        super().__init__(room)
        self._world = world
        self._earlier: dict[str, Known] = {}

    def keep(self, run_id: str, known: Known) -> None:
        before = super().get(run_id)
        if before is not None and before.sequence < known.sequence:
            self._earlier[run_id] = before
        super().keep(run_id, known)

    def drop(self, run_id: str) -> None:
        self._earlier.pop(run_id, None)
        super().drop(run_id)

    def get(self, run_id: str) -> Known | None:
        known = super().get(run_id)
        earlier = self._earlier.get(run_id)
        if known is not None and earlier is not None and self._world.strikes("memory"):
            return earlier
        return known
