"""The one guarded way out: HTTP calls and TCP connections to checked addresses."""

from chassis.egress.addresses import (
    POSTGRES_PORTS,
    REDIS_PORTS,
    AllowedTarget,
    BadAllowList,
    parse_allowed,
)
from chassis.egress.client import Egress, EgressLimits
from chassis.egress.credentials import Credential
from chassis.egress.errors import CredentialNotAllowed, EgressError, Reason
from chassis.egress.gate import Opened
from chassis.egress.requests import Request, Response
from chassis.egress.resolving import Resolve, SystemResolver

__all__ = [
    "Egress",
    "EgressLimits",
    "Request",
    "Response",
    "Credential",
    "Opened",
    "EgressError",
    "CredentialNotAllowed",
    "Reason",
    "AllowedTarget",
    "BadAllowList",
    "parse_allowed",
    "POSTGRES_PORTS",
    "REDIS_PORTS",
    "Resolve",
    "SystemResolver",
]
