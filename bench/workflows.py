"""The workflows that are measured."""

import itertools
from typing import Any

EVERYBODY: dict[str, Any] = {
    "mode": "respond",
    "respond_timeout_s": 60,
    "per_minute": 1_000_000,
    "dedupe": {"by": "preset", "preset": "idempotency_key"},
}
"""A webhook without authentication whose answer comes when the run ends (or responds)."""


def echoes(count: int) -> dict[str, Any]:
    """Echo steps in a row, each given what the one before it gave."""
    nodes = [
        {
            "id": f"step{number}",
            "type": "echo",
            "config": {
                "value": "{{ trigger.body }}" if number == 1 else f"{{{{ steps.step{number - 1}.output }}}}"
            },
        }
        for number in range(1, count + 1)
    ]
    return {"nodes": nodes, "edges": _row(nodes)}


def requests(count: int, url: str) -> dict[str, Any]:
    """HTTP requests in a row."""
    nodes = [
        {
            "id": f"call{number}",
            "type": "http.request",
            "config": {"method": "GET", "url": f"{url}/{number}"},
        }
        for number in range(1, count + 1)
    ]
    return {"nodes": nodes, "edges": _row(nodes)}


def light() -> dict[str, Any]:
    """Filter, two sets and an answer: decided without an executor."""
    nodes: list[dict[str, Any]] = [
        {
            "id": "only_paid",
            "type": "filter",
            "config": {"condition": 'trigger.body.status == "paid" && trigger.body.total > 10.0'},
        },
        {
            "id": "pick",
            "type": "set",
            "config": {
                "fields": {
                    "customer": "{{ trigger.body.customer.name }}",
                    "amount": "{{ trigger.body.total * 1.19 }}",
                    "first": "{{ trigger.body.items[0].sku }}",
                }
            },
        },
        {
            "id": "label",
            "type": "set",
            "config": {
                "fields": {
                    "label": "{{ steps.pick.output.customer }}: {{ steps.pick.output.amount }}",
                    "big": "{{ steps.pick.output.amount > 100.0 }}",
                }
            },
        },
        {"id": "answer", "type": "respond", "config": {"status": 200, "body": "{{ steps.label.output }}"}},
    ]
    return {"nodes": nodes, "edges": _row(nodes)}


def behind(limits: list[dict[str, Any]]) -> dict[str, Any]:
    """The light one, behind gates."""
    return light() | {"flow": {"limits": limits}}


def fanned(at_once: int) -> dict[str, Any]:
    """A map over the items of the body: an echo and a set for each."""
    nodes: list[dict[str, Any]] = [
        {"id": "each", "type": "map", "config": {"items": "{{ trigger.body.items }}", "at_once": at_once}},
        {"id": "call", "type": "echo", "config": {"value": "{{ item.n }}"}, "inside": "each"},
        {
            "id": "double",
            "type": "set",
            "config": {"fields": {"n": "{{ steps.call.output * 2 }}"}},
            "inside": "each",
        },
    ]
    return {"nodes": nodes, "edges": _row(nodes[1:])}


def lengthy(times: int, rounds: int) -> dict[str, Any]:
    """A loop in a loop around eight nodes that do nothing: ten events per round. Then it waits for a signal."""
    nodes: list[dict[str, Any]] = [
        {"id": "outer", "type": "loop", "config": {"until": f"index == {times - 1}", "most_rounds": times}},
        {
            "id": "inner",
            "type": "loop",
            "config": {"until": f"index == {rounds - 1}", "most_rounds": rounds},
            "inside": "outer",
        },
        *({"id": f"idle{number}", "type": "noop", "inside": "inner"} for number in range(1, 9)),
        {"id": "go", "type": "wait.signal", "config": {"signal": "go"}},
    ]
    edges = [*_row(nodes[2:-1]), {"source": "outer", "target": "go"}]
    return {"nodes": nodes, "edges": edges}


def standing() -> dict[str, Any]:
    """Waits for a signal, for ever, and has a step to make behind it."""
    return _before_a_step({"id": "stand", "type": "wait.signal", "config": {"signal": "go"}})


def resting() -> dict[str, Any]:
    """Waits for a day."""
    return _before_a_step({"id": "rest", "type": "delay", "config": {"seconds": 86_400}})


def until_due() -> dict[str, Any]:
    """Waits until the moment that its body says."""
    return _before_a_step({"id": "rest", "type": "delay", "config": {"until": "{{ trigger.body.until }}"}})


def until_then(moment: str) -> dict[str, Any]:
    """Waits until this moment, as all others of it do."""
    return _before_a_step({"id": "rest", "type": "delay", "config": {"until": moment}})


def _before_a_step(node: dict[str, Any]) -> dict[str, Any]:
    nodes = [node, {"id": "after", "type": "echo", "config": {"value": "woken"}}]
    return {"nodes": nodes, "edges": _row(nodes)}


def _row(nodes: list[dict[str, Any]]) -> list[dict[str, str]]:
    return [{"source": before["id"], "target": after["id"]} for before, after in itertools.pairwise(nodes)]
