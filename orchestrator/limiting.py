"""What may stand under `flow.limits` of a workflow: gates with one kind of bound each, and one of them that gathers starts."""

from collections.abc import Iterator, Sequence
from typing import Final

from contracts.gates import ALL_RUNS, FlowLimit
from contracts.workflows import Fault
from orchestrator.passing import gathers

CODE: Final = "workflow.bad_config"


def faults_of_limits(limits: Sequence[FlowLimit]) -> Iterator[Fault]:
    names = set[str]()
    gathering = False
    for place, limit in enumerate(limits):
        at = f"/flow/limits/{place}"
        if limit.name in names:
            yield Fault(code=CODE, pointer=f"{at}/name", message=f"Limit {limit.name} stands twice.")
        names.add(limit.name)
        if limit.name == ALL_RUNS:
            message = f"By {ALL_RUNS} the org says what counts for all its runs: no workflow has a limit of that name."
            yield Fault(code=CODE, pointer=f"{at}/name", message=message)
        if not gathers(limit):
            yield from _of_bounds(limit, at)
            continue
        if gathering:
            yield Fault(code=CODE, pointer=at, message="One limit of a workflow gathers starts, and no more.")
        gathering = True
        yield from _of_gathering(limit, at)


def _of_bounds(limit: FlowLimit, at: str) -> Iterator[Fault]:
    if limit.at_once is None and limit.rate is None:
        message = "A limit says `at_once`, `rate`, or both; or `debounce`, or `batch`."
        yield Fault(code=CODE, pointer=at, message=message)
    elif limit.at_once is None and limit.when_full == "cancel_oldest":
        message = "Where only a rate counts nobody is inside who could be stopped."
        yield Fault(code=CODE, pointer=f"{at}/when_full", message=message)


def _of_gathering(limit: FlowLimit, at: str) -> Iterator[Fault]:
    alone = FlowLimit(
        name=limit.name, per=limit.per, across=limit.across, debounce=limit.debounce, batch=limit.batch
    )
    debounce = limit.debounce
    if limit != alone or (debounce is not None and limit.batch is not None):
        message = "A limit with `debounce` or `batch` says nothing else but its `name`, `per` and `across`."
        yield Fault(code=CODE, pointer=at, message=message)
    elif limit.batch is not None and limit.across == "org":
        message = "A batch is one run of one workflow: what other workflows were to do with their starts nobody would do."
        yield Fault(code=CODE, pointer=f"{at}/across", message=message)
    elif debounce is not None and debounce.at_most is not None and debounce.at_most < debounce.seconds:
        message = "The longest time is shorter than the one in which nothing may come."
        yield Fault(code=CODE, pointer=f"{at}/debounce/at_most", message=message)
