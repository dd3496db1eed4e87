"""What the API says about approvals."""

from datetime import datetime
from typing import Annotated, Any, Literal

from msgspec import Meta, Struct, field

from contracts.limits import COMMENT_CHARS, StepPath
from contracts.waits import Verdict


class ApprovalView(Struct, frozen=True, kw_only=True):
    """A question that nobody has decided yet."""

    run: str
    step: str
    workflow: str
    question: str
    details: str
    form: dict[str, Any]
    """JSON Schema of what is filled in with the decision; empty: nothing."""
    deciders: tuple[str, ...]
    """Who is asked, as `key:<id>`; empty: whoever has the scope `approvals:decide`."""
    by_link: bool
    """Whether whoever has the link of its page may decide, too."""
    asked: datetime
    due: datetime | None
    """A decision after this moment is refused."""
    escalates: datetime | None
    escalated: datetime | None
    """Since when those in `escalate_to` may decide as well."""
    escalate_to: tuple[str, ...]


class Decide(Struct, frozen=True, kw_only=True):
    """`step`: which question of the run is meant; without it the one that is open, where there is just one."""

    decision: Verdict
    step: StepPath | None = None
    fields: dict[str, Any] = field(default_factory=dict)
    comment: Annotated[str, Meta(max_length=COMMENT_CHARS)] = ""


class DecidedView(Struct, frozen=True, kw_only=True):
    run: str
    step: str
    decision: Verdict
    status: Literal["accepted", "unchanged", "queued"]
    """`unchanged`: you decided so before. `queued`: the run's owner is away and will hear it."""
