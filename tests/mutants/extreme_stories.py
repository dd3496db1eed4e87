"""Stories with one thing turned up: many cancellations, large answers, slow calls, runs that begin together."""

import random
from collections.abc import Sequence
from itertools import count
from typing import Any, Final

from msgspec import structs

from chassis.ids import run_id
from contracts.gates import FlowLimit
from contracts.limits import NESTING
from contracts.plans import Plan, PlanEdge, PlanNode
from contracts.schedules import Cron, Missed, Schedule
from contracts.subjects import partition
from contracts.triggers import Chat, HeaderKey, NoAuthentication, Webhook
from contracts.workflows import Flow, Retry
from tests.orchestrator.stories import action, control
from tests.orchestrator.stories import drawn as plan_of
from tests.simulation.clocks import Timed
from tests.simulation.followers import drawn_followers
from tests.simulation.installation import ORG
from tests.simulation.rarities import next_door, plain, with_versions
from tests.simulation.workflows import Delivery, Drawn, Story, calling, story, with_undos

MANY: Final = 1_100
"""Items of which each says two things."""
FAR: Final = 1_000_000
"""From one seed to another that nobody else plays."""


def sound(seed: int) -> Story:
    """One org, and our own code raises on nothing: an outcome that it raises on is a dead letter, and the attempt is made again."""
    return structs.replace(plain(story(seed)), broken_code=False)


def keyed(seed: int) -> Story:
    """Whoever was not answered sends the same again: without a key a start that nobody was told of is nobody's but the
    sweeper's, and so are what an owner that was killed had held, the child and the place at a gate that it had not asked for.
    """
    candidates = (sound(each) for each in count(seed, FAR))
    told = next(found for found in candidates if not (found.related or found.gated))
    workflows = [
        structs.replace(drawn, webhook=structs.replace(drawn.webhook, dedupe=HeaderKey(header="x-key")))
        for drawn in told.workflows
    ]
    deliveries = [
        structs.replace(delivery, key=delivery.key or f"only-{number}")
        for number, delivery in enumerate(told.deliveries)
    ]
    return structs.replace(told, workflows=workflows, deliveries=deliveries, window=MANY, pauses=0.0)


def eager(seed: int) -> Story:
    """Much is cancelled, and much is tried again."""
    return structs.replace(sound(seed), cancels=0.3, retries=3)


def timed(seed: int) -> Story:
    """Runs that only the clock starts, and somebody who changes their schedules again and again."""
    told = sound(seed)
    missed: Missed = "skip" if seed % 2 else "once"
    schedule = Schedule(when=Cron(expression="*/2 * * * * *"), missed=missed, late_s=3)
    workflow = structs.replace(told.workflows[0], stored=True, readable=True)
    return structs.replace(
        told,
        workflows=[workflow],
        deliveries=[],
        clocks=[Timed(trigger="clock0", schedule=schedule, edits=0.2)],
    )


def polled(seed: int) -> Story:
    """Runs that look for something again and again, runs for what they find, and somebody who changes when they look."""
    told = sound(seed)
    schedule = Schedule(when=Cron(expression="*/2 * * * * *"), missed="once", late_s=3)
    timed_ = Timed(trigger="poll0", schedule=schedule, edits=0.1 * (seed % 3), polls=True)
    workflow = structs.replace(told.workflows[0], stored=True, readable=True)
    return structs.replace(told, workflows=[workflow], deliveries=[], clocks=[timed_])


def followed(seed: int) -> Story:
    """Runs that what happens in the org starts, and what happens in those, and somebody who changes what starts them."""
    return structs.replace(sound(seed), followers=drawn_followers(seed))


def next_door_to(seed: int) -> Story:
    """Two orgs that have the same by the same names, and what follows the runs of one of them."""
    told = eager(seed)
    followers = drawn_followers(seed) if seed % 2 else ()
    return next_door(seed, structs.replace(told, followers=followers))


def shared(seed: int) -> Story:
    """Several runs of one partition stand at a gate that is their org's, and somebody changes what that lets in."""
    told = together(seed)
    limit = FlowLimit(name="shared", at_once=3, across="org")
    plan = structs.replace(told.workflows[0].plan, flow=Flow(limits=(limit,)))
    workflow = structs.replace(told.workflows[0], plan=plan)
    return structs.replace(told, workflows=[workflow], gated=True, limits=0.5)


def renewed(seed: int) -> Story:
    """Runs that start runs of a workflow which has a second version in the middle of it, and name the version or do not."""
    told = kindred(seed)
    workflows = with_versions(random.Random(f"{seed}/renewed"), told.workflows)
    return structs.replace(told, workflows=workflows)


def repeated(seed: int) -> Story:
    """Past deliveries run again, and much is cancelled and tried again."""
    return structs.replace(eager(seed), again=True)


def talking(seed: int) -> Story:
    """Every workflow answers what is said to it."""
    told = sound(seed)
    workflows = []
    for drawn in told.workflows:
        answers = structs.replace(drawn.webhook, authentication=NoAuthentication(), mode="respond")
        chat = Chat(respond_timeout_s=5.0)
        workflows.append(structs.replace(drawn, webhook=answers, chat=chat, stored=True, readable=True))
    deliveries = [delivery for delivery in told.deliveries if not delivery.forged]
    return structs.replace(told, workflows=workflows, deliveries=deliveries)


def nested(seed: int) -> Story:
    """A container in one that lies in a third, each a map or a loop, and something that goes wrong in the innermost."""
    told, chance = eager(seed), random.Random(f"{seed}/nested")
    around, nodes = "", list[PlanNode]()
    for depth in range(NESTING):
        kind = chance.choice(("map", "loop"))
        config: dict[str, Any] = {"until": chance.choice((1, 2))}
        if kind == "map":
            going_on = {"on_item_error": "continue"} if chance.random() < 0.5 else {}
            config = {"items": [1, 2], "at_once": chance.choice((1, 2)), **going_on}
        nodes.append(control(f"around{depth}", kind, config, inside=around))
        around = f"around{depth}"
    script = chance.choice((("ok",), ("busy", "ok"), ("drop", "ok"), ("ok", "refuse"), ("refuse",)))
    nodes.append(
        action(
            "call",
            type="call.again",
            repeat="yes",
            inside=around,
            retry=Retry(attempts=2, first_pause_s=0.5),
            timeout_s=4,
            config={"script": script},
        )
    )
    plan = structs.replace(plan_of("", *nodes), workflow=told.workflows[0].plan.workflow)
    workflow = structs.replace(told.workflows[0], plan=plan, stored=True, readable=True)
    delivery = next(each for each in told.deliveries if each.trigger == workflow.trigger)
    return structs.replace(told, workflows=[workflow], deliveries=[delivery])


def contained(seed: int) -> Story:
    """Something is done for each of many, and much of it is cancelled and tried again."""
    candidates = (eager(1_000 * seed + number) for number in count())
    return next(told for told in candidates if any(_contains(drawn.plan) for drawn in told.workflows))


def _contains(plan: Plan) -> bool:
    return any(node.contains for node in plan.nodes)


def crowded(seed: int) -> Story:
    """One run goes through more items than a commit has room for."""
    told = eager(seed)
    plan = plan_of(
        "",
        control("each", "map", {"items": list(range(MANY))}),
        control("light", "noop", inside="each"),
    )
    workflow = structs.replace(told.workflows[0], plan=plan, stored=True, readable=True)
    delivery = next(each for each in told.deliveries if each.trigger == workflow.trigger)
    return structs.replace(told, workflows=[workflow], deliveries=[delivery])


def together(seed: int) -> Story:
    """Several runs of one partition begin at once."""
    told = sound(seed)
    drawn = structs.replace(
        told.workflows[0], webhook=Webhook(dedupe=HeaderKey(header="x-key")), stored=True, readable=True
    )
    names = (f"key-{number}" for number in range(1_000))
    beside = [key for key in names if partition(run_id(ORG, drawn.trigger, f"key:{key}")) == 0][:8]
    deliveries = [Delivery(trigger=drawn.trigger, key=key, at=1.0) for key in beside]
    return structs.replace(told, workflows=[drawn], deliveries=deliveries)


def kindred(seed: int) -> Story:
    """Every workflow but the last starts runs of those behind it, and is tried again when they fail."""
    return _kindred(sound(seed), random.Random(f"{seed}/kindred"))


def _kindred(told: Story, chance: random.Random) -> Story:
    own_gates = [_with_gates_of_its_own(drawn) for drawn in told.workflows]
    last = structs.replace(own_gates[-1], trigger="last", token="last" * 8, stored=True, readable=True)
    last = structs.replace(last, plan=structs.replace(last.plan, workflow="last"))
    workflows = [calling(chance, drawn, ["last"]) for drawn in own_gates]
    return structs.replace(told, workflows=[*workflows, last], related=True)


def _with_gates_of_its_own(drawn: Drawn) -> Drawn:
    """Nobody waits for a run that wants to pass where he stands himself."""
    flow = drawn.plan.flow
    if flow is None:
        return drawn
    own = tuple(limit for limit in flow.limits if limit.across != "org")
    flow = structs.replace(flow, limits=own) if own else None
    return structs.replace(drawn, plan=structs.replace(drawn.plan, flow=flow))


def undoing(seed: int) -> Story:
    """Every call has something that undoes it, in half of them a run now and then, and much is cancelled or refused."""
    told, chance = sound(seed), random.Random(f"{seed}/undoing")
    workflows = [with_undos(chance, drawn, 1.0) for drawn in told.workflows]
    told = structs.replace(told, workflows=workflows, cancels=0.2, retries=1)
    return _kindred(told, chance) if chance.random() < 0.5 else told


def asking(seed: int) -> Story:
    """Every run pauses, in which people say what it has not asked for yet; then it waits twice for the same."""
    told = sound(seed)
    plan = plan_of(
        "pause>first first>second",
        control("pause", "delay", {"seconds": 3}),
        control("first", "wait.signal", {"signal": "paid"}),
        control("second", "wait.signal", {"signal": "paid"}),
    )
    workflow = structs.replace(told.workflows[0], plan=plan, stored=True, readable=True)
    deliveries = [each for each in told.deliveries if each.trigger == workflow.trigger]
    return structs.replace(told, workflows=[workflow], deliveries=deliveries)


def large(seed: int) -> Story:
    """Every answer of the world is larger than a commit may hold."""
    return _scripted(sound(seed), ["big"])


def doubtful(seed: int) -> Story:
    """No call may be made twice, none is answered, and people decide again and again."""
    return _scripted(sound(seed), ["drop", "lose", "drop", "lose"], repeat="no", type="call.once")


def slow(seed: int) -> Story:
    """Every call takes its time, and much of it is cancelled."""
    return _scripted(eager(seed), ["slow"] * 4)


def _scripted(told: Story, script: Sequence[str], **changes: Any) -> Story:
    """The same story with this behaviour of the world at every call."""
    workflows = []
    for drawn in told.workflows:
        nodes = [
            structs.replace(node, config={"script": script}, **changes) if node.place == "executor" else node
            for node in drawn.plan.nodes
        ]
        workflows.append(structs.replace(drawn, plan=structs.replace(drawn.plan, nodes=tuple(nodes))))
    return structs.replace(told, workflows=workflows)


def hurried(seed: int) -> Story:
    """Every run has a second, and nobody retries."""
    told = sound(seed)
    workflows = [
        structs.replace(drawn, plan=structs.replace(drawn.plan, timeout_s=1.0)) for drawn in told.workflows
    ]
    return structs.replace(
        told, workflows=[_slow(drawn) for drawn in workflows], cancels=0, retries=0, retries_later=0
    )


def _slow(drawn: Any) -> Any:
    """The same workflow behind half a minute in which nothing happens that would have anybody look at the run."""
    first = drawn.plan.nodes[0]
    pause = control("pause", "delay", {"seconds": 30}, order=0)
    edge = PlanEdge(source=pause.id, port="main", target=first.id, into="main")
    nodes = (pause, *(structs.replace(node, order=node.order + 1) for node in drawn.plan.nodes))
    plan = structs.replace(drawn.plan, nodes=nodes, edges=(edge, *drawn.plan.edges))
    return structs.replace(drawn, plan=plan)
