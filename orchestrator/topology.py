"""The shape of a graph: an order in which to go through it, its circles, and what leads where."""

from collections import deque
from collections.abc import Mapping, Sequence
from typing import TypeAlias

from msgspec import Struct

from contracts.limits import NodeId

Arrows: TypeAlias = Mapping[NodeId, Sequence[NodeId]]
"""Every node, and the nodes to which edges lead from it."""


class Topology(Struct, frozen=True, kw_only=True):
    """What can be said about a graph at once."""

    order: tuple[NodeId, ...]
    """Every node behind all that lead to it; without the nodes in and behind circles."""
    circles: tuple[tuple[NodeId, ...], ...]
    """One way round each group of nodes that lead to each other."""
    unreachable: tuple[NodeId, ...]
    """Nodes to which no path leads from a start, and that are in no circle themselves."""
    ancestors: Mapping[NodeId, frozenset[NodeId]]
    """For each node of the order, all that come before it."""


def examine(arrows: Arrows) -> Topology:
    """Linear in nodes and edges, but for the ancestors."""
    order = _order(arrows)
    placed = set(order)
    left = {
        node: [target for target in targets if target not in placed]
        for node, targets in arrows.items()
        if node not in placed
    }
    groups = _groups(left)
    circles = tuple(_way_round(left, group) for group in groups if _turns_round(left, group))
    in_circles = {node for group in groups if _turns_round(left, group) for node in group}
    return Topology(
        order=order,
        circles=circles,
        unreachable=tuple(node for node in left if node not in in_circles),
        ancestors=_ancestors(arrows, order),
    )


def _order(arrows: Arrows) -> tuple[NodeId, ...]:
    """Kahn's algorithm: the starts as they were drawn, then every node as soon as all that leads to it has its place."""
    open_edges = dict.fromkeys(arrows, 0)
    for targets in arrows.values():
        for target in targets:
            open_edges[target] += 1
    free = deque(node for node, count in open_edges.items() if count == 0)
    order: list[NodeId] = []
    while free:
        node = free.popleft()
        order.append(node)
        for target in arrows[node]:
            open_edges[target] -= 1
            if open_edges[target] == 0:
                free.append(target)
    return tuple(order)


def _ancestors(arrows: Arrows, order: Sequence[NodeId]) -> dict[NodeId, frozenset[NodeId]]:
    placed = set(order)
    found: dict[NodeId, set[NodeId]] = {node: set() for node in order}
    for node in order:
        for target in arrows[node]:
            if target in placed:
                found[target] |= found[node]
                found[target].add(node)
    return {node: frozenset(ancestors) for node, ancestors in found.items()}


def _turns_round(arrows: Arrows, group: Sequence[NodeId]) -> bool:
    return len(group) > 1 or group[0] in arrows[group[0]]


def _groups(arrows: Arrows) -> list[list[NodeId]]:
    """The strongly connected components: Kosaraju's two passes, without recursion."""
    finished: list[NodeId] = []
    seen: set[NodeId] = set()
    for node in arrows:
        _visit(arrows, node, seen, finished)
    backwards: dict[NodeId, list[NodeId]] = {node: [] for node in arrows}
    for node, targets in arrows.items():
        for target in targets:
            backwards[target].append(node)
    seen.clear()
    groups: list[list[NodeId]] = []
    for node in reversed(finished):
        group: list[NodeId] = []
        _visit(backwards, node, seen, group)
        if group:
            groups.append(group)
    return groups


def _visit(arrows: Arrows, start: NodeId, seen: set[NodeId], finished: list[NodeId]) -> None:
    """Depth first; a node is finished when all behind it are."""
    if start in seen:
        return
    seen.add(start)
    path = [(start, iter(arrows[start]))]
    while path:
        node, targets = path[-1]
        for target in targets:
            if target not in seen:
                seen.add(target)
                path.append((target, iter(arrows[target])))
                break
        else:
            path.pop()
            finished.append(node)


def _way_round(arrows: Arrows, group: Sequence[NodeId]) -> tuple[NodeId, ...]:
    """The shortest way from the group's first node back to it."""
    members = set(group)
    start = min(group)
    came_from: dict[NodeId, NodeId] = {}
    waiting = deque([start])
    while waiting:
        node = waiting.popleft()
        for target in arrows[node]:
            if target == start:
                return _trace(came_from, start, node)
            if target in members and target not in came_from:
                came_from[target] = node
                waiting.append(target)
    return (start,)


def _trace(came_from: Mapping[NodeId, NodeId], start: NodeId, last: NodeId) -> tuple[NodeId, ...]:
    way = [last]
    while way[-1] != start:
        way.append(came_from[way[-1]])
    return tuple(reversed(way))
