"""Holds what was played against what a case expects.

The sequence of event types is compared exactly; of an event, the fields that the case names. Ids and hashes are never
compared: the run's own id stands as `<run>`, a moment as seconds since the run's start, a stored value as its size.
"""

import json
from collections.abc import Iterable, Iterator, Sequence
from datetime import datetime
from typing import Any, Final

import msgspec
from msgspec import UNSET, Raw, Struct

from contracts.codec import encode
from contracts.runs import RunEvent
from contracts.workflows import Fault
from orchestrator.run import Run, waiting_for
from tests.conformance.case import Case, Delivery, Event, Expected
from tests.conformance.stage import Played

MOMENTS: Final = ("due", "deadline")
OBJECTS: Final = ("error", "unfinished", "cause")
"""Of these fields, only what a case names of them is compared."""


class Ended(Struct, frozen=True, kw_only=True):
    """What is so at the end, in the words of a case."""

    status: str
    steps: dict[str, str]
    output: Any = UNSET
    error: Any = None
    answer: Any = None
    waiting_for: Sequence[str] = ()


def shown(event: RunEvent, run: str, began: datetime) -> dict[str, Any]:
    """An event as a case tells it: with every field, free of ids and of the time at which it was played."""
    return plain(encode(event), run, began)


def plain(event: bytes, run: str, began: datetime) -> dict[str, Any]:
    """The same of an event as it lies in the log."""
    fields: dict[str, Any] = _json(event, run)
    for name in MOMENTS:
        if fields.get(name):
            fields[name] = _seconds(datetime.fromisoformat(fields[name]) - began)
    return {name: _value(value) for name, value in fields.items() if name != "schema_version"}


def _json(body: bytes, run: str) -> Any:
    return json.loads(body.replace(run.encode(), b"<run>"))


def _seconds(span: Any) -> float | int:
    seconds = round(span.total_seconds(), 3)
    return int(seconds) if seconds == int(seconds) else seconds


def _value(value: Any) -> Any:
    """A value stands as itself, wherever it is kept; one that is stored apart as its size."""
    match value:
        case {"in": "event", "value": inline}:
            return without_hashes(inline)
        case {"in": "blob"}:
            return {"stored": value["size"]}
        case float() if value.is_integer():
            return int(value)  # Seconds of the engine's own; in a value of somebody's, 1.0 is not 1.
        case _:
            return value


def without_hashes(value: Any) -> Any:
    """References to stored values inside a value, told by their size alone."""
    match value:
        case {"blob": {"sha256": _, "size": size}}:
            return {"stored": size}
        case dict():
            return {name: without_hashes(inner) for name, inner in value.items()}
        case list():
            return [without_hashes(inner) for inner in value]
        case _:
            return value


def ended(played: Played) -> Ended:
    """How the run stands after the last happening."""
    run = played.run
    own = [node.id for node in played.graph.plan.nodes if not node.inside] if played.graph else []
    names = dict.fromkeys([*own, *run.steps])
    return Ended(
        status=run.status,
        steps={name: run.step(name).status for name in names},
        output=_value(_json(encode(run.output), run.id)) if run.phase == "completed" else UNSET,
        error=_json(encode(run.error), run.id) if run.error else None,
        answer=_answer(run),
        waiting_for=[f"{each.kind} {each.name}" for each in waiting_for(run)],
    )


def _answer(run: Run) -> dict[str, Any] | None:
    if run.responded is None:
        return None
    fields = _json(encode(run.responded), run.id)
    return {name: _value(fields[name]) for name in ("status", "headers", "body")}


# --- Differences --------------------------------------------------------------------------------


def differences(case: Case, played: Played) -> list[str]:
    """Every place where the engine does something else than the case says, in its order. None: it holds."""
    found = list[str]()
    for number, (happening, turn) in enumerate(zip(case.script, played.turns, strict=True)):
        place = f"script/{number}"
        got = [shown(each, played.run.id, played.began) for each in turn.events]
        found += events_differ(place, happening.then, got)
        if happening.refused != turn.refused:
            found.append(f"{place}: refused with {turn.refused}, not with {happening.refused}")
        if isinstance(happening, Delivery) and happening.answer not in (UNSET, turn.answer):
            found.append(f"{place}: answered {turn.answer}, not {happening.answer}")
    if not isinstance(case.expected, Expected):
        return [*found, "expected: the case does not say how it ends"]
    return found + list(end_differs(case.expected, ended(played)))


def events_differ(place: str, wanted: Iterable[Event], got: Sequence[dict[str, Any]]) -> list[str]:
    """The sequence of types exactly, and the fields that are named."""
    events = list(each_event(wanted))
    types, had = [event.get("type") for event in events], [event["type"] for event in got]
    if types != had:
        return [f"{place}: {had}, not {types}"]
    return [
        f"{place}/then/{number}/{name}: {json.dumps(found.get(name))}, not {json.dumps(value)}"
        for number, (event, found) in enumerate(zip(events, got, strict=True))
        for name, value in event.items()
        if not _fits(name, value, found.get(name), known=name in found)
    ]


def each_event(wanted: Iterable[Event]) -> Iterator[dict[str, Any]]:
    """One after the other, also where a case says how often."""
    for event in wanted:
        match event:
            case str():
                yield {"type": event}
            case {"times": times, "events": events, **rest} if not rest:
                for _ in range(times):
                    yield from each_event(events)
            case _:
                yield event


def faults_differ(case: Case, found: Sequence[Fault]) -> list[str]:
    """The faults in their order: code and place exactly, and what else is named."""
    wanted, got = [msgspec.to_builtins(each) for each in case.faults], [msgspec.to_builtins(f) for f in found]
    if len(wanted) != len(got):
        return [f"faults: {[(fault.code, fault.pointer) for fault in found]}"]
    return [
        f"faults/{number}: {fault}, not {claim}"
        for number, (claim, fault) in enumerate(zip(wanted, got, strict=True))
        if not part_of(claim, fault)
    ]


def end_differs(wanted: Expected, got: Ended) -> Iterator[str]:
    if wanted.status != got.status:
        yield f"expected/status: {got.status}, not {wanted.status}"
    if wanted.steps != got.steps:
        yield f"expected/steps: {got.steps}, not {wanted.steps}"
    if isinstance(wanted.output, Raw) != (got.output is not UNSET):
        yield "expected/output: a completed run has one, and no other"
    elif isinstance(wanted.output, Raw) and not same(msgspec.json.decode(wanted.output), got.output):
        yield f"expected/output: {json.dumps(got.output)}, not {bytes(wanted.output).decode()}"
    if (wanted.error is None) != (got.error is None) or not part_of(wanted.error, got.error):
        yield f"expected/error: {got.error}, not {wanted.error}"
    if not same(wanted.answer, got.answer):
        yield f"expected/answer: {got.answer}, not {wanted.answer}"
    if list(wanted.waiting_for) != list(got.waiting_for):
        yield f"expected/waiting_for: {got.waiting_for}, not {list(wanted.waiting_for)}"


def _fits(name: str, wanted: Any, got: Any, *, known: bool) -> bool:
    return known and (part_of(wanted, got) if name in OBJECTS else same(wanted, got))


def part_of(wanted: Any, got: Any) -> bool:
    """What is named of an object; lists item by item."""
    match wanted, got:
        case dict(), dict():
            return all(name in got and part_of(value, got[name]) for name, value in wanted.items())
        case list(), list():
            return len(wanted) == len(got) and all(map(part_of, wanted, got))
        case _:
            return same(wanted, got)


def same(one: Any, other: Any) -> bool:
    """The same JSON: 1 is neither 1.0 nor true."""
    return json.dumps(one, sort_keys=True) == json.dumps(other, sort_keys=True)
