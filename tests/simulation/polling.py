"""Polls in a simulated installation: what there is to be found, and the runs that look for it.

What is found has numbers from 1 on, and the cursor is the last one that was seen (tests/promises/polls.py).
"""

import random
from typing import Any, Final

from chassis.testing.world import World
from contracts.plans import Plan, PlanNode
from contracts.schedules import Schedule
from contracts.triggers import Poll
from contracts.workflows import Retry

FEED: Final = "call.feed"
_PAGE: Final = 4
_EVERY_SECONDS: Final = 0.7
_GROWS_SECONDS: Final = 20.0
"""Then there is nothing new any more."""
_BADLY: Final = ("busy", "early", "drop", "lose", "raise", "slow")


class Feed:
    """A place that has got one more every so often."""

    def __init__(self, world: World) -> None:
        self._world = world

    def page(self, cursor: int | None) -> dict[str, Any]:
        """What a run that looks gives (`contracts.occasions.Intake`): from the last one that was seen on, itself included."""
        last = int(min(self._world.loop.time(), _GROWS_SECONDS) / _EVERY_SECONDS)
        first = cursor or 1
        found = range(first, min(first + _PAGE, last + 1))
        items = [{"key": str(number), "item": {"number": number}} for number in found]
        return {"items": items, "cursor": found[-1] if found else cursor}


def poll(schedule: Schedule) -> Poll:
    """Whose expressions nobody evaluates: the plan of its runs is made here."""
    return Poll(schedule=schedule, request={}, items="found", key="entry.number")


def looking(seed: int) -> Plan:
    """One call, whose answer is what was found; now and then it goes wrong."""
    chance = random.Random(f"{seed}/looking")
    script = [chance.choice(_BADLY) for _ in range(chance.choice((0, 0, 1, 2)))]
    node = PlanNode(
        id="fetch",
        type=FEED,
        place="executor",
        repeat="yes",
        retry=Retry(attempts=3 - seed % 2, first_pause_s=0.5, factor=2),
        timeout_s=4.0,
        config={"script": script},
    )
    return Plan(org="org", workflow="looking", version=1, nodes=(node,), edges=(), vars={})
