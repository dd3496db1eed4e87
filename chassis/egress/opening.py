"""The guarded way out of a service, as its settings have it."""

from chassis.egress.addresses import BadAllowList, parse_allowed
from chassis.egress.client import Egress
from chassis.egress.own import OwnAddresses, addresses
from chassis.egress.urls import BadUrl
from chassis.lifecycle import CannotStart
from chassis.settings import Settings


def egress_of(settings: Settings) -> Egress:
    """Raises `CannotStart` on an allow-list, or on addresses of our own, that cannot be read."""
    try:
        return Egress(parse_allowed(settings.egress_allow), own=own_addresses(settings))
    except BadAllowList as error:
        raise CannotStart(f"AUTOMATEOS_EGRESS_ALLOW: {error}") from error


def own_addresses(settings: Settings) -> OwnAddresses:
    """Where the installation itself is reached. Raises `CannotStart` on what is no address."""
    try:
        return OwnAddresses([*addresses(settings.public_url), *addresses(settings.own_urls)])
    except BadUrl as error:
        raise CannotStart(f"AUTOMATEOS_PUBLIC_URL, AUTOMATEOS_OWN_URLS: {error}") from error
