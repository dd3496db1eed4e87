"""How a credential adds itself to a request, and to which hosts it may go."""

import base64
from urllib.parse import quote

import msgspec
from msgspec import Struct

from chassis.egress.errors import CredentialNotAllowed, EgressError
from chassis.egress.urls import Target
from chassis.secret import (
    BasicSecret,
    BearerSecret,
    HeaderSecret,
    QuerySecret,
    SecretValue,
    host_allowed,
)


class Credential(Struct, frozen=True, kw_only=True):
    """An opened secret with the hosts to which it is bound. No host listed: it goes nowhere."""

    value: SecretValue
    allowed_hosts: tuple[str, ...]

    def check(self, host: str) -> None:
        """Raises `CredentialNotAllowed` when this (normalised) host is not one of the credential's."""
        if not host_allowed(host, self.allowed_hosts):
            raise CredentialNotAllowed(host)


def add_credential(
    credential: Credential, target: Target, headers: dict[str, str]
) -> tuple[Target, dict[str, str]]:
    """The request's address and headers with the credential in them. It replaces a header of the same name."""
    credential.check(target.host)
    match credential.value:
        case HeaderSecret(name=name, value=value):
            added = {name: value.reveal_text()}
        case BasicSecret(user=user, password=password):
            pair = user.encode() + b":" + password.reveal()
            added = {"authorization": "Basic " + base64.b64encode(pair).decode()}
        case BearerSecret(token=token):
            added = {"authorization": "Bearer " + token.reveal_text()}
        case QuerySecret(name=name, value=value):
            joint = b"&" if b"?" in target.path else b"?"
            pair = f"{quote(name, safe='')}={quote(value.reveal_text(), safe='')}".encode()
            return msgspec.structs.replace(target, path=target.path + joint + pair), headers
        case _:
            raise EgressError(
                "bad_request", touched=False, detail="A secret of this kind does not go into a request."
            )
    names = {name.lower() for name in added}
    return target, {name: value for name, value in headers.items() if name.lower() not in names} | added
