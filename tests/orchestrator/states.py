"""Keeps states as this release writes them: `python -m tests.orchestrator.states`. A line that is there is never written again.

Run it when a struct of the state has a new field; what is kept shows every field at least once.
"""

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final, get_args

import msgspec
from msgspec import structs

from chassis.testing.examples import commit, sample
from contracts.codec import decode_commit, encode
from contracts.payloads import Inline
from contracts.reference import VERSION
from contracts.runs import Parent, RunContinued
from orchestrator.run import Run, evolve
from orchestrator.segments import continued, restored
from orchestrator.state import Items, Step
from tests.histories.corpus import recorded

STATES: Final = Path(__file__).parent / "states.jsonl"


def kept() -> list[Run]:
    """The states that are there, as this release reads them."""
    found: list[Run] = []
    for line in STATES.read_bytes().splitlines() if STATES.exists() else ():
        event = decode_commit(line).events[0]
        assert isinstance(event, RunContinued)
        assert isinstance(event.state, Inline)
        run = restored(bytes(event.state.value), event, "org", "run-1")
        assert run is not None, line[:300]
        found.append(run)
    return found


def shown(run: Run) -> set[str]:
    """The fields of a state that are not at their default."""
    seen: set[str] = set()
    parts: tuple[Any, ...] = (run, *run.steps.values(), *run.items.values())
    for each in parts:
        for field in structs.fields(each):
            empty = field.default_factory() if callable(field.default_factory) else field.default
            if getattr(each, field.name) != empty:
                seen.add(f"{type(each).__name__}.{field.name}")
    return seen


def candidates() -> Iterator[Run]:
    """Every state of every recorded run, and one of a run that another asked for."""
    for each in recorded(VERSION):
        run = Run.new("org", "run-1")
        for one in each.decoded():
            for event in one.events:
                run = evolve(run, event, one.time)
                yield run
        yield structs.replace(run, parent=Parent(run="run-0", step="call"), request="cd" * 32)


def fields() -> set[str]:
    """Every field of a state that may be at another value than its default."""
    return {f"{kind.__name__}.{name}" for kind in (Run, Step, Items) for name in kind.__struct_fields__} - {
        "Run.rules"
    }


def made_up(field: str) -> Run:
    """A state that shows a field which no recorded run has used yet."""
    kind, _, name = field.partition(".")
    parts: dict[str, type[Run | Step | Items]] = {"Run": Run, "Step": Step, "Items": Items}
    of = parts[kind]
    [told] = [each for each in structs.fields(of) if each.name == name]
    value = msgspec.json.decode(encode(sample(told.type)), type=told.type)
    if value == told.default:
        value = get_args(told.type)[-1]  # Of a few names the first one is what it is without one.
    run = Run.new("org", "run-1")
    match kind:
        case "Step":
            return structs.replace(run, steps={"a": Step(**{name: value})})
        case "Items":
            return structs.replace(run, items={"a": Items(**{name: value})})
        case _:
            return structs.replace(run, **{name: value})


def main() -> int:
    seen = {field for run in kept() for field in shown(run)}
    with STATES.open("ab") as file:
        for run in sorted(candidates(), key=lambda run: len(encode(run))):
            event = continued(run, 2, 1)
            assert event is not None
            if not shown(run) <= seen:
                seen |= shown(run)
                file.write(encode(commit(event, org="org", run="run-1", version=2)) + b"\n")
        for field in sorted(fields() - seen):
            event = continued(made_up(field), 2, 1)
            file.write(encode(commit(event, org="org", run="run-1", version=2)) + b"\n")
    sys.stdout.write(f"{len(kept())} states in {STATES}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
