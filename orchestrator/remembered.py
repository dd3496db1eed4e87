"""How the items of containers are remembered: all of them while they are under way, of those that are over the result.

Rule that holds here: no change copies more than one page of items, so a map of ten thousand costs ten thousand times what
one item costs. What is not known (a container that is not open) changes nothing.
"""

from collections.abc import Mapping
from typing import Any, TypeAlias

from msgspec import structs

from contracts.errors import Failure
from contracts.limits import ITEMS_PER_PAGE, StepPath
from contracts.payloads import Blob, Inline
from contracts.runs import ItemDone, ItemFailed, ItemsBegan, ItemsKept, ItemsPaged
from orchestrator.paths import ItemPath, container_of
from orchestrator.state import Items, Result, Step

Containers: TypeAlias = Mapping[StepPath, Items]


def paged(containers: Containers, event: ItemsPaged) -> Containers:
    """One more page of a map's items is known."""
    known = containers.get(event.step)
    return (
        containers if known is None else _changed(containers, event.step, pages=(*known.pages, event.items))
    )


def began(containers: Containers, event: ItemsBegan) -> Containers:
    known = containers.get(event.step)
    if known is None:
        return containers
    behind = event.first + event.count
    opened = {**known.open, **dict.fromkeys(range(event.first, behind))}
    return _changed(containers, event.step, begun=max(known.begun, behind), open=opened)


def failing(containers: Containers, item: ItemPath, error: Failure) -> Containers:
    """Nothing begins in this item any more. The first failure of an item is its own."""
    path, number = container_of(item)
    known = containers.get(path)
    if known is None or known.open.get(number, error) is not None:
        return containers
    return _changed(containers, path, open={**known.open, number: error})


def over(containers: Containers, event: ItemDone | ItemFailed, result: Result) -> Containers:
    """What came of an item; a loop needs no more than the last."""
    known = containers.get(event.step)
    if known is None or event.item not in known.open:
        return containers
    still_open = {number: error for number, error in known.open.items() if number != event.item}
    if known.count is None:
        last = result if isinstance(result, Inline | Blob) else known.last
        return _changed(containers, event.step, open=still_open, last=last)
    page = event.item // ITEMS_PER_PAGE
    results = {**known.results, page: {**known.results.get(page, {}), event.item: result}}
    return _changed(containers, event.step, open=still_open, results=results)


def kept(containers: Containers, event: ItemsKept) -> Containers:
    """A page of results has a place of its own."""
    known = containers.get(event.step)
    if known is None:
        return containers
    results = {page: results for page, results in known.results.items() if page != event.page}
    return _changed(containers, event.step, results=results, kept={**known.kept, event.page: event.results})


def reopened(items: Items) -> Items:
    """What failed is tried again."""
    return structs.replace(items, open=dict.fromkeys(items.open))


def without_steps(steps: Mapping[StepPath, Step], beginning: str) -> dict[StepPath, Step]:
    """The steps inside of what is over are remembered no longer."""
    return {path: step for path, step in steps.items() if not path.startswith(beginning)}


def _changed(containers: Containers, path: StepPath, **changes: Any) -> Containers:
    return {**containers, path: structs.replace(containers[path], **changes)}
