"""Whether a trigger's own dedupe key can work: asked when it is written, not at every delivery."""

from collections.abc import Iterator
from typing import Final

from chassis.edge.problems import Problem
from chassis.expressions import Language
from chassis.expressions.faults import Flaw
from chassis.expressions.program import Program
from contracts.triggers import ExpressionKey, Webhook
from contracts.workflows import Fault

POINTER: Final = "/webhook/dedupe/expression"
CODE: Final = "workflow.bad_expression"
FIELDS: Final = ("body", "content_type", "headers", "method", "query")
"""What ingress knows of a delivery when it asks for the key."""


def checked(webhook: Webhook, language: Language) -> Webhook:
    """The same settings. Raises `Problem` with every fault of the expression, and where it is."""
    if isinstance(webhook.dedupe, ExpressionKey) and (flaws := _flaws(webhook.dedupe.expression, language)):
        raise Problem(
            CODE,
            "The dedupe key is not an expression that can be evaluated for a delivery.",
            faults=[
                Fault(code=CODE, pointer=POINTER, message=flaw.message, position=flaw.offset)
                for flaw in flaws
            ],
        )
    return webhook


def _flaws(source: str, language: Language) -> tuple[Flaw, ...]:
    program = language.program(source)
    return tuple(_unknown(program)) if isinstance(program, Program) else program


def _unknown(program: Program) -> Iterator[Flaw]:
    """What an expression reads and a delivery does not have."""
    if not program.references:
        message = "it reads nothing of the delivery, so every delivery would be a duplicate of the first"
        yield Flaw(code="reference", message=message)
    for reference in program.references:
        root, *rest = reference.place
        if root != "trigger":
            message = f"`{root}` is not there when a delivery comes; a key reads `trigger`"
        elif rest and rest[0] not in FIELDS:
            message = f"`trigger.{rest[0]}` is not there when a delivery comes; there are {', '.join(FIELDS)}"
        else:
            continue
        yield Flaw(code="reference", message=message, offset=reference.offset)
