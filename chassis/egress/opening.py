"""The guarded way out of a service, as its settings have it."""

from chassis.egress.addresses import BadAllowList, parse_allowed
from chassis.egress.client import Egress
from chassis.lifecycle import CannotStart
from chassis.settings import Settings


def egress_of(settings: Settings) -> Egress:
    """Raises `CannotStart` on an allow-list that cannot be read."""
    try:
        return Egress(parse_allowed(settings.egress_allow))
    except BadAllowList as error:
        raise CannotStart(f"AUTOMATEOS_EGRESS_ALLOW: {error}") from error
