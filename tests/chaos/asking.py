"""Workflows of a campaign that wait for somebody: a decision, a word, a call of their address. Each goes on when nobody comes."""

from typing import Any, Final

from tests.chaos.drawing import call, forked

ESCALATES_SECONDS: Final = 2
DECIDED_SECONDS: Final = 6
_PATIENCE_SECONDS: Final = 40
SIGNAL: Final = "paid"
LETTER: Final = "letter"
"""The step that tells the world at which address one may decide."""


def approval(world: str) -> dict[str, Any]:
    """Decided in time, after it was escalated, too late, or never."""
    return _asked(world)


def letter(world: str) -> dict[str, Any]:
    """The same, by whoever has the address of the page."""
    return _asked(world, call(LETTER, world, "PUT", callback="{{ steps.ask.resume_url }}"))


def _asked(world: str, *beside: dict[str, Any]) -> dict[str, Any]:
    ask = {
        "id": "ask",
        "type": "wait.approval",
        "config": {
            "question": "Well, {{ trigger.body.n }}?",
            "escalate_after_seconds": ESCALATES_SECONDS,
            "timeout_seconds": DECIDED_SECONDS,
        },
    }
    ways = "ask.approved>yes ask.rejected>no ask.timeout>late"
    decided = [call(name, world, "KEYED") for name in ("yes", "no")]
    return forked(ask, *beside, *decided, call("late", world, "PUT"), ways=ways)


def signal(world: str) -> dict[str, Any]:
    """The word may come before anybody waits for it."""
    ask = {
        "id": "ask",
        "type": "wait.signal",
        "config": {"signal": SIGNAL, "timeout_seconds": _PATIENCE_SECONDS},
    }
    return forked(
        call("before", world, "PUT"),
        ask,
        call("after", world, "KEYED"),
        call("late", world, "PUT"),
        ways="before>ask ask>after ask.timeout>late",
    )


def callback(world: str) -> dict[str, Any]:
    """The world is told an address, and calls it when it likes to."""
    done = {"id": "done", "type": "wait.webhook", "config": {"timeout_seconds": _PATIENCE_SECONDS}}
    return forked(
        call("order", world, "PUT", callback="{{ steps.done.resume_url }}"),
        done,
        call("after", world, "KEYED"),
        call("late", world, "PUT"),
        ways="order>done done>after done.timeout>late",
    )
