"""What a run asks of people and of programs outside: an approval, or a call of its resumption address."""

from collections.abc import Sequence
from datetime import datetime
from typing import Annotated, Any, Final, Literal, TypeAlias

from msgspec import Meta, Struct, field

from contracts.limits import DECIDERS, QUESTION_CHARS, WEBHOOK_BODY_BYTES, Decider, Marks, Text
from contracts.payloads import Inline
from contracts.triggers import Authentication, Method, NoAuthentication

LINK: Final = "link"
"""The actor of whoever opened the link of an approval: what they call themselves stands beside it."""
CALLER: Final = "caller"
"""The actor of whoever called a resumption address."""

Verdict: TypeAlias = Literal["approved", "rejected"]
Deciders: TypeAlias = Annotated[tuple[Decider, ...], Meta(max_length=DECIDERS)]


class Approval(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A question that people decide."""

    question: Annotated[str, Meta(min_length=1, max_length=QUESTION_CHARS)]
    details: Text = ""
    form: dict[str, Any] = field(default_factory=dict)
    """The JSON Schema of an object as it was written, read by `contracts.forms`: what is filled in with a decision."""
    deciders: Deciders = ()
    """Empty: whoever has the right to decide."""
    by_link: bool = True
    """Whether whoever has the link may decide, too."""
    escalate_to: Deciders = ()
    """Who may decide as well, once it was escalated."""
    escalates: datetime | None = None
    """When it is escalated."""
    sensitive: Marks = ()
    """Places in what the step gives, in `/fields` and `/comment`, that are sealed where a decision comes in."""


class AwaitedCall(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A call that a run waits for, and what is answered to it."""

    methods: Annotated[tuple[Method, ...], Meta(min_length=1, max_length=5)] = ("POST",)
    authentication: Authentication = NoAuthentication()
    body_bytes: Annotated[int, Meta(ge=1, le=WEBHOOK_BODY_BYTES)] = WEBHOOK_BODY_BYTES
    status: Annotated[int, Meta(ge=200, le=299)] = 200
    body: Inline | None = None
    """None: that the call was received."""
    sensitive: Marks = ()
    """Places in what the step gives that are sealed where the call comes in."""


def may_decide(approval: Approval, actor: str, *, escalated: bool) -> bool:
    """Whether this is one of those who are asked. That they have the right at all is looked at where they come in."""
    if actor == LINK:
        return approval.by_link
    asked: Sequence[str] = (*approval.deciders, *(approval.escalate_to if escalated else ()))
    return not approval.deciders or actor in asked
