"""Which nodes may mark what is sensitive, and what of it."""

from collections.abc import Iterator
from typing import Final

from contracts.limits import Marks
from contracts.nodes import NodeSpec
from orchestrator.schemas import Finding

SAID: Final = frozenset({"wait.approval", "wait.webhook", "wait.signal"})
"""Node types whose output is what people and programs say: it is sealed where it comes in."""
_OF_A_DECISION: Final = ("/fields", "/comment")


def flaws_of_marks(spec: NodeSpec, marks: Marks) -> Iterator[Finding]:
    """What is wrong with a node's marks, with its place among them."""
    if not marks:
        return
    if spec.type not in SAID and spec.place != "executor":
        yield (
            "",
            "Only what an executor brings is sealed, and what is said to a step that waits; mark it where it comes from.",
        )
    elif spec.type == "wait.approval":
        for place, mark in enumerate(marks):
            if mark != _OF_A_DECISION[1] and f"/{mark.split('/')[1] if mark else ''}" != _OF_A_DECISION[0]:
                yield f"/{place}", "Of a decision, `/comment` and what stands in `/fields` can be marked."
