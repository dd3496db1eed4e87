"""What few seeds draw besides, each by a chance of its own, so that every other story stays as it was.

Rule that holds here: each is so rare that all of them together cost a twentieth of the schedules' steps at the most.
"""

import random
from collections.abc import Sequence
from datetime import timedelta
from typing import Any, Final

from msgspec import structs

from chassis.testing.world import START
from contracts.gates import FlowLimit
from contracts.plans import Plan, PlanNode
from contracts.triggers import Chat, NoAuthentication
from contracts.workflows import Flow
from tests.orchestrator.stories import control
from tests.orchestrator.stories import drawn as plan_of
from tests.simulation.followers import drawn_followers
from tests.simulation.told import NEIGHBOURS, Delivery, Drawn, Newer, Story

FOLLOWED: Final = 0.02
"""Of all stories, those in which events start runs."""
NEXT_DOOR: Final = 0.02
"""In which another org has the same workflows, triggers and keys."""
AGAIN: Final = 0.02
"""In which past deliveries are run again."""
LIMITED: Final = 0.6
"""Of the stories whose workflows share a gate, those in which somebody changes what it lets in."""
MERGED: Final = 0.3
"""Of the workflows that join branches, those that join lists."""
FIRST: Final = 0.4
"""Of the merges that go on with one branch, those that give its output as it is."""
MOMENTS: Final = 0.2
"""Of the pauses, those that end at a moment."""
CHATS: Final = 0.15
"""Of the workflows that answer, those with which people talk."""
IN_LINE: Final = 0.08
"""Of all workflows, those that go before or behind the others."""
ACROSS: Final = 0.5
"""Of the workflows of whose starts the newest goes on, those that share that with others."""
KEYED: Final = 0.4
"""Of the workflows behind gates, those with one for each key."""
PINNED: Final = 0.5
"""Of the steps that start runs, those that name a version."""

HALF: Final = "trigger.body.half"
"""The key of a gate, of which there are two."""
RANK: Final = "trigger.body.rank"
"""How soon a run goes, as an expression says it."""
NO_KEY: Final = "trigger.body.nothing"
_LISTS: Final[Sequence[list[Any]]] = (
    [],
    [{"id": 1, "a": 1}, {"id": 2, "a": 2}],
    [{"id": 1, "a": 1}, {"id": 2, "a": 2}],
    [{"id": 2.0, "b": [2]}, {"id": 3, "b": None}],
    [{"id": 2.0, "b": [2]}, {"id": 3, "b": None}],
    [{"a": "nothing to join by"}],
    ["no object"],
)


def rarer(seed: int, told: Story) -> Story:
    """The same story, with what this seed draws besides."""
    workflows = [_of_one(seed, drawn) for drawn in told.workflows]
    if told.related:
        workflows = with_versions(random.Random(f"{seed}/versions"), workflows)
    limits = random.Random(f"{seed}/limits")
    often = _limits(limits, workflows)
    if often:
        workflows = [_wider(limits, drawn) for drawn in workflows]
    told = structs.replace(
        told,
        workflows=workflows,
        limits=often,
        followers=drawn_followers(seed) if _strikes(seed, "followed", FOLLOWED) else (),
        again=_strikes(seed, "again", AGAIN),
    )
    return next_door(seed, told) if _strikes(seed, "neighbours", NEXT_DOOR) else told


def plain(told: Story) -> Story:
    """The story of one org, in which nobody talks, nothing follows anything and nothing runs again: for a look at one thing alone."""
    return structs.replace(
        told,
        workflows=[structs.replace(drawn, chat=None) for drawn in told.workflows if drawn.org != NEIGHBOURS],
        deliveries=[delivery for delivery in told.deliveries if delivery.org != NEIGHBOURS],
        followers=(),
        again=False,
    )


def _strikes(seed: int, what: str, share: float) -> bool:
    return random.Random(f"{seed}/{what}").random() < share


def _of_one(seed: int, drawn: Drawn) -> Drawn:
    plan = _first_alone(random.Random(f"{seed}/{drawn.trigger}/first"), drawn.plan)
    plan = _until(random.Random(f"{seed}/{drawn.trigger}/until"), plan)
    plan = joining(random.Random(f"{seed}/{drawn.trigger}/joining"), plan)
    plan = _in_line(random.Random(f"{seed}/{drawn.trigger}/line"), plan)
    plan = _across(random.Random(f"{seed}/{drawn.trigger}/across"), plan)
    plan = _behind_keys(random.Random(f"{seed}/{drawn.trigger}/keys"), plan)
    talks = random.Random(f"{seed}/{drawn.trigger}/chat")
    chat: Chat | None = None
    answers = drawn.webhook.mode == "respond" and isinstance(drawn.webhook.authentication, NoAuthentication)
    if answers and talks.random() < CHATS:
        chat = Chat(respond_timeout_s=drawn.webhook.respond_timeout_s)
    return structs.replace(drawn, plan=plan, chat=chat)


def _first_alone(chance: random.Random, plan: Plan) -> Plan:
    """Of the merges that go on with one branch some give what that one gave, and nothing else."""
    nodes = tuple(
        structs.replace(node, config={"mode": "first"})
        if node.type == "merge" and node.join == "any" and node.pin is None and chance.random() < FIRST
        else node
        for node in plan.nodes
    )
    return structs.replace(plan, nodes=nodes)


def _until(chance: random.Random, plan: Plan) -> Plan:
    """Some pauses end at a moment, which may have passed."""
    nodes = tuple(
        structs.replace(
            node,
            config={"until": (START + timedelta(seconds=chance.choice((-5, 2, 6)))).isoformat()},
        )
        if node.type == "delay" and node.pin is None and chance.random() < MOMENTS
        else node
        for node in plan.nodes
    )
    return structs.replace(plan, nodes=nodes)


def joining(chance: random.Random, plan: Plan, share: float = MERGED) -> Plan:
    """The same plan; what some of its branches give are lists, and become one."""
    joins = [node for node in plan.nodes if node.type == "merge" and node.join == "all" and node.pin is None]
    if not joins or chance.random() >= share:
        return plan
    changed: dict[str, PlanNode] = {}
    for node in joins:
        how = chance.choice(("append", "by_position", "by_key"))
        config = {"mode": "all", "output": how} | ({"key": "id"} if how == "by_key" else {})
        changed[node.id] = structs.replace(node, config=config)
        sources = {edge.source for edge in plan.edges if edge.target == node.id}
        for source in plan.nodes:
            if source.id in sources and source.place == "executor":
                given = chance.choice(_LISTS)
                changed[source.id] = structs.replace(source, config={**source.config, "gives": given})
    return structs.replace(plan, nodes=tuple(changed.get(node.id, node) for node in plan.nodes))


def _in_line(chance: random.Random, plan: Plan) -> Plan:
    if chance.random() >= IN_LINE:
        return plan
    return structs.replace(
        plan, flow=structs.replace(plan.flow or Flow(), priority=chance.choice((0, 4, 6, 9, RANK)))
    )


def _behind_keys(chance: random.Random, plan: Plan) -> Plan:
    if plan.flow is None or not plan.flow.limits or chance.random() >= KEYED:
        return plan
    limits = tuple(_keyed(chance, limit) for limit in plan.flow.limits)
    return structs.replace(plan, flow=structs.replace(plan.flow, limits=limits))


def _across(chance: random.Random, plan: Plan) -> Plan:
    """Of bursts that several workflows get the newest start goes on, whoever's it is."""
    if plan.flow is None or chance.random() >= ACROSS:
        return plan
    limits = tuple(
        structs.replace(limit, across="org") if limit.debounce is not None else limit
        for limit in plan.flow.limits
    )
    return structs.replace(plan, flow=structs.replace(plan.flow, limits=limits))


def _keyed(chance: random.Random, limit: FlowLimit) -> FlowLimit:
    drawn = chance.random()
    if drawn < 0.3:
        return limit
    return structs.replace(limit, per=NO_KEY if drawn > 0.97 else HALF)


def _limits(chance: random.Random, workflows: Sequence[Drawn]) -> float:
    limits = [limit for drawn in workflows if drawn.plan.flow is not None for limit in drawn.plan.flow.limits]
    is_shared = any(map(_is_shared, limits))
    return chance.choice((0.2, 0.5)) if is_shared and chance.random() < LIMITED else 0.0


def _is_shared(limit: FlowLimit) -> bool:
    """Whether the org may say how many are inside."""
    return limit.across == "org" and limit.at_once is not None


def _wider(chance: random.Random, drawn: Drawn) -> Drawn:
    """What the org says may be more or less than what the workflow does."""
    if drawn.plan.flow is None:
        return drawn
    at_once = chance.choice((1, 2, 3))
    limits = tuple(
        structs.replace(limit, at_once=at_once) if _is_shared(limit) else limit
        for limit in drawn.plan.flow.limits
    )
    flow = structs.replace(drawn.plan.flow, limits=limits)
    return structs.replace(drawn, plan=structs.replace(drawn.plan, flow=flow))


def with_versions(chance: random.Random, workflows: Sequence[Drawn]) -> list[Drawn]:
    """The same workflows; of some a second version comes, and some steps name the version that they want."""
    found: list[Drawn] = []
    for drawn in workflows:
        nodes = tuple(
            structs.replace(node, config={**node.config, "version": chance.choice((1, 1, 1, 2, 2, 7))})
            if node.type == "workflow.run" and node.pin is None and chance.random() < PINNED
            else node
            for node in drawn.plan.nodes
        )
        newer = Newer(at=chance.random() * 5, plan=_newer(chance, drawn)) if chance.random() < 0.5 else None
        found.append(structs.replace(drawn, plan=structs.replace(drawn.plan, nodes=nodes), newer=newer))
    return found


def _newer(chance: random.Random, drawn: Drawn) -> Plan:
    """Nobody outside is called in it."""
    second = chance.choice(("noop", "delay", "stop"))
    configs: dict[str, dict[str, Any]] = {"delay": {"seconds": 0.5}, "stop": {"message": "Not any more."}}
    plan = plan_of(
        "a>b", control("a", "set", {"fields": {"version": 2}}), control("b", second, configs.get(second))
    )
    return structs.replace(plan, org=drawn.org, workflow=drawn.plan.workflow, version=2)


def next_door(seed: int, told: Story) -> Story:
    """The same story for two orgs: nothing but the org, and the addresses, tells theirs from ours."""
    chance = random.Random(f"{seed}/next door")
    theirs = [_moved(drawn) for drawn in told.workflows]
    sent: list[Delivery] = [
        structs.replace(delivery, org=NEIGHBOURS, at=delivery.at + chance.choice((0, 0.3)) * chance.random())
        for delivery in told.deliveries
    ]
    return structs.replace(told, workflows=[*told.workflows, *theirs], deliveries=[*told.deliveries, *sent])


def _moved(drawn: Drawn) -> Drawn:
    newer = drawn.newer
    if newer is not None:
        newer = structs.replace(newer, plan=structs.replace(newer.plan, org=NEIGHBOURS))
    return structs.replace(
        drawn,
        org=NEIGHBOURS,
        token=f"next-door-{drawn.token}",
        plan=structs.replace(drawn.plan, org=NEIGHBOURS),
        newer=newer,
    )
