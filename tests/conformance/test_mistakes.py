"""What the runner notices: every event of every case, changed, left out, put in or moved, makes its case fail."""

import json
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import msgspec
import pytest

from tests.conformance.case import Case, files, read
from tests.conformance.compare import (
    differences,
    each_event,
    events_differ,
    faults_differ,
    part_of,
    same,
    shown,
)
from tests.conformance.stage import Played, compiled, play

RUNS = [path for path in files() if read(path).script]
FAULTY = [path for path in files() if not read(path).script]


@cache
def played(path: Path) -> Played:
    return play(read(path))


def drawn(path: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(path.read_text())
    return found


def case_of(told: dict[str, Any]) -> Case:
    return msgspec.json.decode(json.dumps(told), type=Case)


def holds(path: Path, told: dict[str, Any]) -> bool:
    return not differences(case_of(told), played(path))


def other_events(events: list[Any]) -> Iterator[tuple[str, list[Any]]]:
    """Every small mistake in one list of events."""
    for place, event in enumerate(events):
        before, behind = events[:place], events[place + 1 :]
        yield f"without {event}", before + behind
        yield f"twice {event}", [*before, event, event, *behind]
        yield f"no longer {event}", [*before, {**_fields(event), "type": "run.unheard-of"}, *behind]
        for name in _fields(event).keys() - {"type"}:
            yield f"another {name} in {event}", [*before, {**_fields(event), name: "another"}, *behind]
        yield f"a field more in {event}", [*before, {**_fields(event), "surprise": None}, *behind]
        if behind and _fields(event)["type"] != _fields(behind[0])["type"]:
            yield f"{event} later", [*before, behind[0], event, *behind[1:]]
    yield "one more", [*events, "run.completed"]


def _fields(event: Any) -> dict[str, Any]:
    return {"type": event} if isinstance(event, str) else event


def test_an_event_that_is_changed_left_out_put_in_or_moved_is_noticed() -> None:
    mistakes = 0
    for path in RUNS:
        case, seen = read(path), played(path)
        assert differences(case, seen) == []
        for happening, turn in zip(case.script, seen.turns, strict=True):
            recorded = [shown(event, seen.run.id, seen.began) for event in turn.events]
            for mistake, other in other_events(list(each_event(happening.then))):
                assert events_differ("", other, recorded), f"{path.stem}: {mistake}"
                mistakes += 1
    assert mistakes > 5_000


def test_a_mistake_in_one_list_of_events_makes_the_whole_case_fail() -> None:
    for path in RUNS:
        told = drawn(path)
        assert holds(path, told)
        for happening in told["script"]:
            happening["then"] = [*happening["then"], "run.parked"]
            assert not holds(path, told), path.stem
            happening["then"].pop()


def test_another_end_is_noticed() -> None:
    for path in RUNS:
        told = drawn(path)
        for name, value in told["expected"].items():
            told["expected"][name] = _another(name, value)
            assert not holds(path, told), f"{path.stem}: another {name}"
            told["expected"][name] = value
        for name in told["expected"].keys() - {"status", "steps"}:
            value = told["expected"].pop(name)
            assert not holds(path, told), f"{path.stem}: without {name}"
            told["expected"][name] = value


def _another(name: str, value: Any) -> Any:
    match name:
        case "status":
            return "failed" if value == "completed" else "completed"
        case "steps":
            return {
                **value,
                next(iter(value), "nowhere"): "in_doubt" if "in_doubt" not in value.values() else "failed",
            }
        case "waiting_for":
            return [*value, "another"]
        case _:
            return {"another": 1}


def test_a_refusal_or_an_answer_that_is_not_so_is_noticed() -> None:
    for path in RUNS:
        told = drawn(path)
        for place, happening in enumerate(told["script"]):
            others = [{**happening, "refused": "conflict"}]
            if happening["happens"] == "delivery":
                others.append({**happening, "answer": _other_answer(happening)})
            for other in others:
                told["script"][place] = other
                assert not holds(path, told), path.stem
            told["script"][place] = happening


def _other_answer(happening: dict[str, Any]) -> str:
    return "accepted" if happening.get("answer") == "duplicate" else "duplicate"


def test_a_fault_that_is_changed_left_out_put_in_or_moved_is_noticed() -> None:
    for path in FAULTY:
        _notices_other_faults(path)


def _notices_other_faults(path: Path) -> None:
    told, found = drawn(path), compiled(read(path))
    assert isinstance(found, list)
    faults = told["faults"]
    assert faults_differ(case_of(told), found) == []
    others = [faults[:place] + faults[place + 1 :] for place in range(len(faults))]
    others += [[*faults, faults[0]]]
    for place, fault in enumerate(faults):
        others += [
            [*faults[:place], {**fault, name: 99 if name == "position" else "another"}, *faults[place + 1 :]]
            for name in fault
        ]
    others += [faults[::-1]] if len(faults) > 1 else []
    for other in others:
        assert faults_differ(case_of({**told, "faults": other}), found) != []


@pytest.mark.parametrize(
    ("one", "other"), [(1, 1.0), (1, True), (0, False), ("1", 1), ([], {}), (None, {}), ([1, 2], [2, 1])]
)
def test_values_that_python_takes_for_equal_or_nearly_so_are_not_the_same(one: Any, other: Any) -> None:
    assert not same(one, other)
    assert not same({"a": [one]}, {"a": [other]})
    assert not part_of(one, other)


def test_of_an_object_only_what_is_named_counts_and_of_a_list_every_item() -> None:
    assert part_of({"code": "a"}, {"code": "a", "message": "b"})
    assert not part_of({"code": "a", "field": "/x"}, {"code": "a"})
    assert part_of([{"step": "a"}], [{"step": "a", "effect": "none"}])
    assert not part_of([{"step": "a"}], [{"step": "a"}, {"step": "b"}])


def test_events_that_stand_so_often_are_counted() -> None:
    recorded = [{"type": kind} for kind in ("a", "b", "a", "b", "c")]
    assert not events_differ("", [{"times": 2, "events": ["a", {"type": "b"}]}, "c"], recorded)
    for times in (1, 3):
        assert events_differ("", [{"times": times, "events": ["a", "b"]}, "c"], recorded)
    assert events_differ("", [{"times": 2, "events": ["a", "b"], "step": "each"}, "c"], recorded)
