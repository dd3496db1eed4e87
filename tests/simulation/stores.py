"""What outlives every process of a simulated installation: stores, people outside, and the workflows published in it."""

import itertools
from collections.abc import Collection
from datetime import timedelta

from msgspec import structs

from chassis.dispatch import Dispatch
from chassis.ids import digest
from chassis.testing.examples import domain_commit
from chassis.testing.past import MemoryRunIds
from chassis.testing.queues import MemoryInbox, MemorySignals
from chassis.testing.stores import MemoryBlobs, MemoryLetters, MemoryLog
from chassis.testing.tasks import MemoryTasks
from chassis.testing.world import START, Fault, Rates, SimulatedClock, World
from contracts.codec import encode
from contracts.plans import Plan
from contracts.subjects import DOMAIN, RUNS, domain
from contracts.triggers import ChatCreated, TriggerBound, TriggerCreated
from contracts.workflows import VersionPublished, WorkflowCreated
from executor.registry import Registry
from orchestrator.lanes import Lanes
from tests.promises.evidence import Decoded, Entry
from tests.simulation.again import Historian
from tests.simulation.archive import (
    MemoryArchive,
    MemoryShelf,
    past_runs,
)
from tests.simulation.clients import Web
from tests.simulation.clocks import Keeper, Plans
from tests.simulation.followers import Editor, MemoryPlaces, short_plan
from tests.simulation.models import MemoryModels
from tests.simulation.outside import Outside, nodes
from tests.simulation.owners import ORG
from tests.simulation.pausing import Pauser
from tests.simulation.people import Person
from tests.simulation.polling import looking
from tests.simulation.processes import Processes
from tests.simulation.sharing import Warden
from tests.simulation.surroundings import Vault
from tests.simulation.told import Drawn, Newer, Story

__all__ = ["ORG", "Stores"]


class Stores:
    """Everything that outlives a process, and everybody outside."""

    def __init__(self, seed: int, story: Story, rates: Rates, only: Collection[Fault] | None = None) -> None:
        self.story = story
        self.world = world = World(seed, rates, only)
        self.clock = SimulatedClock(world)
        self.domain = MemoryLog(world)
        self.runs = MemoryLog(world)
        self.effects = MemoryLog(world)
        self.fires = MemoryLog(world)
        self.gates = MemoryLog(world)
        self.signals = MemorySignals(world)
        self.inbox = MemoryInbox(world)
        self.tasks = MemoryTasks(world, self.clock)
        self.blobs = MemoryBlobs(world)
        self.dead = MemoryLetters(world)
        self.hooks = MemoryLetters(world)
        self.models = MemoryModels(world)
        self.archive = MemoryArchive(world, self.models.tables)
        self.shelf = MemoryShelf(world, self.models)
        self.run_ids = MemoryRunIds(world, lambda org: past_runs(self.models.tables, org))
        self.marks = MemoryLog(world)
        self.outside = Outside(world)
        self.web = Web(world)
        self.vault = Vault(world)
        self.processes = Processes(world, self.clock)
        self.decoded = Decoded()
        self.person = Person(
            world, story, self.runs.ever, self.outside, Dispatch(self.signals, self.inbox), self.decoded
        )
        self.ledger: list[Entry] = []
        self._is_calm = False
        self.poison = 0
        """Letters that nobody can read, laid into INBOX by the simulation."""
        self.code_is_broken = story.broken_code
        self.plans: dict[str, Drawn] = {}
        self._registry = Registry(nodes(self.outside))
        self._receipts = itertools.count(1)
        for drawn in story.workflows:
            self._publish(drawn)
        scheduled, short = next(iter(self.plans), ""), self._keep(short_plan()) if story.follows else ""
        looks = self._keep(looking(seed)) if any(each.polls for each in story.clocks) else ""
        plans = Plans(scheduled=scheduled, looking=looks, found=short)
        self.keeper = Keeper(world, story.clocks, self.domain, Dispatch(self.signals, self.inbox), plans)
        flows = [drawn.plan.workflow for drawn in story.workflows]
        self.pauser = Pauser(world, story.pauses, self.domain, flows)
        self.warden = Warden(world, story.limits, self.domain)
        self.historian = Historian(world, self.runs.ever, Dispatch(self.signals, self.inbox), self.decoded)
        self.sent_home = 0
        """Lives of executors that were drained in their middle, or will be if they last so long."""
        self.lanes: list[Lanes] = []
        """Of every orchestrator that ever lived."""
        self.followed = {RUNS: MemoryPlaces(world), DOMAIN: MemoryPlaces(world)}
        self.editor = Editor(world, story.followers, self.domain, short)

    def _keep(self, plan: Plan) -> str:
        """A plan that somebody else than a sender starts runs of; its hash."""
        name = digest(body := encode(plan))
        self.blobs.kept[name] = body
        self.plans[name] = structs.replace(self.story.workflows[0], plan=plan, stored=True, readable=True)
        return name

    def _publish(self, drawn: Drawn) -> None:
        body = encode(drawn.plan) if drawn.readable else b'{"format":2,"nodes":{}}'
        plan = digest(body)
        self.plans[plan] = drawn
        if drawn.stored:
            self.blobs.kept[plan] = body
        workflow = drawn.plan.workflow
        token, test_token = digest(drawn.token.encode()), digest(f"test-{drawn.token}".encode())
        made: TriggerCreated | ChatCreated = TriggerCreated(
            name=drawn.trigger, workflow=workflow, webhook=drawn.webhook, token=token, test_token=test_token
        )
        if drawn.chat is not None:
            made = ChatCreated(
                name=drawn.trigger, workflow=workflow, on=drawn.chat, token=token, test_token=test_token
            )
        bound = domain_commit(
            "trigger",
            drawn.trigger,
            made,
            TriggerBound(version=1, plan=plan),
            org=drawn.org,
            time=START,
            id=_id_of(drawn, drawn.trigger),
        )
        self.domain.put(domain(drawn.org, "trigger", drawn.trigger), encode(bound))
        published = domain_commit(
            "workflow",
            workflow,
            WorkflowCreated(name=workflow),
            VersionPublished(version=1, plan=plan),
            org=drawn.org,
            time=START,
            id=_id_of(drawn, workflow),
        )
        self.domain.put(domain(drawn.org, "workflow", workflow), encode(published))

    def publish_newer(self, drawn: Drawn, newer: Newer) -> None:
        """From now on runs of the workflow follow another plan, unless they name the version that they want."""
        workflow, plan = drawn.plan.workflow, self._keep(newer.plan)
        published = domain_commit(
            "workflow",
            workflow,
            VersionPublished(version=2, plan=plan),
            org=drawn.org,
            version=2,
            time=START + timedelta(seconds=self.world.loop.time()),
            id=_id_of(drawn, f"{workflow}-2"),
        )
        self.domain.put(domain(drawn.org, "workflow", workflow), encode(published))


def _id_of(drawn: Drawn, name: str) -> str:
    return name if drawn.org == ORG else f"{drawn.org}-{name}"
