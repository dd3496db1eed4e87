"""Where a step lies in its run: `fetch`, `each[3].fetch`, `each[3].again[0].fetch`.

An **item** is named by its container and its number, `each[3]`; the steps inside of it hang on it. The workflow itself is
the item with the empty name. Names of nodes have neither dots nor brackets, so a path is read without knowing a plan.
"""

import re
from collections.abc import Iterator
from typing import Final, TypeAlias

from contracts.limits import NodeId, StepPath

ItemPath: TypeAlias = str
WHOLE: Final[ItemPath] = ""
"""The workflow itself, in which every step lies that lies in no container."""
_NUMBERS: Final = re.compile(r"\[(\d+)\]")


def node_of(path: StepPath) -> NodeId:
    """The node of the plan that a step is one of."""
    return path.rpartition(".")[2]


def item_of(path: StepPath) -> ItemPath:
    """The item in which a step lies."""
    return path.rpartition(".")[0]


def within(item: ItemPath, node: NodeId) -> StepPath:
    """The step of a node in an item."""
    return f"{item}.{node}" if item else node


def item_path(container: StepPath, number: int) -> ItemPath:
    return f"{container}[{number}]"


def container_of(item: ItemPath) -> tuple[StepPath, int]:
    """The container of an item that is not the whole, and the item's number in it."""
    container, _, number = item.rpartition("[")
    return container, int(number[:-1])


def container_node(item: ItemPath) -> NodeId:
    """The node of the plan whose item it is; empty for the whole."""
    return node_of(item).partition("[")[0]


def items_around(path: StepPath) -> Iterator[ItemPath]:
    """The items in which a step lies, the innermost first, without the whole."""
    item = item_of(path)
    while item:
        yield item
        item = item_of(container_of(item)[0])


def numbers(path: StepPath) -> tuple[int, ...]:
    """The numbers of the items in which a step lies, the outermost first: steps of one node are in order by them."""
    return tuple(map(int, _NUMBERS.findall(path))) if "[" in path else ()
