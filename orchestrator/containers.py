"""Maps and loops: when an item is over, what closes one, and which begin next.

Nodes inside of a container are done once per item, as if each item were a small run: what nothing is under way in is over.
An unhandled failure inside fails the item, the item its container, and the container what is around it, until something
takes it: a map that goes on without failed items, or an error path. Where it is taken nothing new begins; what is under
way there ends by itself, and then it is said what came of it. Where nothing takes it, the run stops.
"""

from collections.abc import Iterator
from datetime import datetime
from typing import Final

from contracts.limits import EVENTS_PER_TURN, ITEMS, ITEMS_PER_PAGE, StepPath, WaitName
from contracts.plans import PlanNode
from contracts.runs import (
    Decision,
    ItemDone,
    ItemFailed,
    ItemsBegan,
    ItemsKept,
    StepCancelled,
    WaitDropped,
    WaitEnded,
    WaitOpened,
)
from orchestrator.catalogue import AT_ONCE
from orchestrator.evaluate import Evaluate
from orchestrator.paths import ItemPath, container_of, items_around, node_of
from orchestrator.readiness import Graph
from orchestrator.state import DONE, Items, Run

_TURN: Final = "turn:"


def continues(node: PlanNode) -> bool:
    """Whether a container goes on without the items that failed."""
    return node.config.get("on_item_error") == "continue"


def takes_failures(graph: Graph, container: StepPath) -> bool:
    """Whether a failed item ends in its container, instead of failing what is around it at once."""
    node = graph.nodes[node_of(container)]
    return continues(node) or node.id in graph.handled or node.on_error == "continue"


def closed(run: Run, graph: Graph, path: StepPath) -> bool:
    """Whether nothing may begin here: an item around it is over or fails."""
    if "[" not in path:
        return False
    for item in items_around(path):
        container, number = container_of(item)
        items = run.items.get(container)
        if items is None or run.step(container).status != "running":
            return True
        if number not in items.open or items.open[number] is not None:
            return True
        if not continues(graph.nodes[node_of(container)]) and items.fails:
            return True
    return False


def under_way(run: Run, beginning: str) -> bool:
    """Whether somebody may still say how an attempt in there ended."""
    return any(path.startswith(beginning) for each in (run.attempts, run.doubts) for path in each)


def _waits(run: Run, beginning: str) -> Iterator[WaitOpened]:
    for wait in run.waits.values():
        if (wait.step or wait.wait.removeprefix(_TURN)).startswith(beginning):
            yield wait


def cleared(run: Run, beginning: str) -> list[Decision]:
    """Nothing in there goes on: its waits are dropped, its steps cancelled."""
    said: list[Decision] = [
        WaitDropped(wait=wait.wait) for wait in _waits(run, beginning) if wait.kind != "escalation"
    ]
    for path, step in run.steps.items():
        if path.startswith(beginning) and step.status not in (*DONE, "cancelled"):
            said.append(StepCancelled(step=path, node=node_of(path)))
    return said


def over(run: Run, graph: Graph, item: ItemPath, evaluate: Evaluate) -> list[Decision]:
    """What came of an item; nothing while it is not over, or while something around it closes."""
    container, number = container_of(item)
    items, node = run.items.get(container), graph.nodes[node_of(container)]
    if items is None or number not in items.open or closed(run, graph, container):
        return []
    error, inner = items.open[number], f"{item}."
    if run.step(container).status != "running" or under_way(run, inner):
        return []
    if error is not None:
        failed = ItemFailed(step=container, item=number, error=error)
        return [*cleared(run, inner), failed] if continues(node) else []
    if any(_waits(run, inner)) or (items.fails and not continues(node)):
        return []
    leaves = graph.leaves[node.id]
    if len(leaves) == 1 and run.step(f"{inner}{leaves[0]}").status == "succeeded":
        return [ItemDone(step=container, item=number, leaf=leaves[0])]
    return [ItemDone(step=container, item=number, output=evaluate.came_of(run, item))]


def page_over(run: Run, container: StepPath, number: int, evaluate: Evaluate) -> list[Decision]:
    """The results of the page in which an item lies, once all of them are there."""
    items = run.items.get(container)
    if items is None or items.count is None:
        return []
    page = number // ITEMS_PER_PAGE
    if len(items.results.get(page, {})) < min(ITEMS_PER_PAGE, items.count - page * ITEMS_PER_PAGE):
        return []
    return [ItemsKept(step=container, page=page, results=evaluate.page(run, container, page))]


def turn_wait(container: StepPath) -> WaitName:
    """The wait by which a container goes on in a commit of its own."""
    return _TURN + container


def turn_of(ended: WaitEnded) -> StepPath:
    """The container that goes on now; empty when the wait was another one."""
    return ended.wait.removeprefix(_TURN) if ended.wait.startswith(_TURN) else ""


def waits_its_turn(run: Run, container: StepPath) -> bool:
    return turn_wait(container) in run.waits


def next_items(
    run: Run, graph: Graph, container: StepPath, said: int, at: datetime
) -> ItemsBegan | WaitOpened | None:
    """The items that begin now. A turn that has `said` too much goes on in a commit of its own."""
    items, node = run.items[container], graph.nodes[node_of(container)]
    if items.count is None:
        free = 1
    else:
        free = min(node.config.get("at_once", AT_ONCE) - len(items.open), items.count - items.begun)
    if free <= 0:
        return None
    inside = graph.inside[node.id]
    maps = sum(graph.nodes[name].type == "map" for name in inside)
    room = (EVENTS_PER_TURN - said) // (2 * len(inside) + 2 + maps * ITEMS // ITEMS_PER_PAGE)
    if said and room <= 0:
        return WaitOpened(wait=turn_wait(container), kind="turn", due=at)
    return ItemsBegan(step=container, first=items.begun, count=min(free, max(1, room)))


def all_over(items: Items) -> bool:
    """Whether a map has nothing left to begin and nothing under way."""
    return items.begun == items.count and not items.open
