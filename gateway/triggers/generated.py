"""Secrets that we make for a trigger: what each way of authentication wants."""

import base64
import secrets
from typing import Final

from msgspec import structs

from chassis.secret import BasicSecret, HmacSecret, Secret, SecretValue, TextSecret
from contracts.triggers import (
    Authentication,
    Basic,
    Github,
    HeaderToken,
    Hmac,
    NoAuthentication,
    Slack,
    StandardWebhooks,
    Stripe,
    Webhook,
)
from gateway.rejected import Rejected

GENERATE: Final = "generate"
"""In the place of a secret's id: make a new one."""
_USER: Final = "automateos"


def secret_of(webhook: Webhook) -> str | None:
    """The secret's id; None when the authentication needs none."""
    match webhook.authentication:
        case NoAuthentication():
            return None
        case authentication:
            return authentication.secret


def with_secret(webhook: Webhook, secret_id: str) -> Webhook:
    match webhook.authentication:
        case NoAuthentication():
            return webhook
        case authentication:
            return structs.replace(webhook, authentication=structs.replace(authentication, secret=secret_id))


def generate(authentication: Authentication) -> tuple[SecretValue, str]:
    """A new value of at least 192 random bits, and the text that the sender is configured with."""
    match authentication:
        case Github() | Hmac():
            text = secrets.token_hex(32)
            return HmacSecret(key=Secret(text)), text
        case StandardWebhooks():
            text = "whsec_" + base64.b64encode(secrets.token_bytes(32)).decode()
            return HmacSecret(key=Secret(text)), text
        case HeaderToken():
            text = secrets.token_urlsafe(32)
            return TextSecret(text=Secret(text)), text
        case Basic():
            text = secrets.token_urlsafe(24)
            return BasicSecret(user=_USER, password=Secret(text)), f"{_USER}:{text}"
        case Stripe() | Slack():
            raise Rejected("malformed", "The sender gives this secret; store it and name its id.")
        case NoAuthentication():
            raise Rejected("conflict", "The trigger asks for no secret.")
