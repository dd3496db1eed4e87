"""Everything of a schedule that is not chance: workflows, triggers, deliveries, and what people will want."""

from collections.abc import Sequence
from typing import Final

from msgspec import Struct

from contracts.plans import Plan
from contracts.triggers import Chat, Webhook
from tests.simulation.clocks import Timed
from tests.simulation.followers import Follower
from tests.simulation.owners import ORG

NEIGHBOURS: Final = "neighbours"
"""Another org, which has the same by the same names."""


class Delivery(Struct, frozen=True, kw_only=True):
    """One webhook that somebody sends until it is accepted."""

    trigger: str
    key: str
    """Empty: a delivery without one."""
    at: float
    late: bool = False
    """Sent again when everything is over."""
    forged: bool = False
    """Signed with another secret."""
    org: str = ORG


class Newer(Struct, frozen=True, kw_only=True):
    """A second version of a workflow, which somebody publishes while runs go on."""

    at: float
    plan: Plan


class Drawn(Struct, frozen=True, kw_only=True):
    """A workflow and the webhook that starts it."""

    trigger: str
    token: str
    webhook: Webhook
    plan: Plan
    stored: bool = True
    """Whether the plan is where plans are."""
    readable: bool = True
    """Whether this release can read the plan."""
    org: str = ORG
    chat: Chat | None = None
    """What is sent to its address is somebody's message, and answered."""
    newer: Newer | None = None


class Story(Struct, frozen=True, kw_only=True):
    """Everything of a schedule that is not chance."""

    workflows: Sequence[Drawn]
    deliveries: Sequence[Delivery]
    cancels: float
    """How often, per look at a run, somebody wants it to stop."""
    retries: int
    """How often a run that did not end well is tried again."""
    retries_later: int
    """How often once more, after its history has left the log."""
    broken_code: bool
    """The release has a defect until it is replaced."""
    retires: bool = False
    """Histories leave the log as soon as their runs have ended, in the middle of everything."""
    related: bool = False
    """Nodes of some workflows start runs of others."""
    gated: bool = False
    """Runs of some workflows pass gates."""
    clocks: Sequence[Timed] = ()
    """What the clock starts."""
    followers: Sequence[Follower] = ()
    """What events start."""
    window: int = 16
    """So many attempts an orchestrator asks for before it knows a pool."""
    pauses: float = 0.0
    """How often, per look at what there is, somebody pauses some of it or takes it up again."""
    limits: float = 0.0
    """How often, per look, somebody changes what the org says of the gates that its workflows share."""
    again: bool = False
    """Somebody has past deliveries run again."""
    segment: int = 4_000
    """How many events a segment of a history holds."""
    tombstones: int | None = None
    """So many last commits stay in the log when everything is over and a day has passed; None: all."""

    @property
    def follows(self) -> bool:
        """Whether anything is started by what lies in the log."""
        return bool(self.followers) or any(each.polls for each in self.clocks)

    @property
    def orgs(self) -> Sequence[str]:
        return list(dict.fromkeys(drawn.org for drawn in self.workflows))
