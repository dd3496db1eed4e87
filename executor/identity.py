"""How an imported API is shown who calls: one stored secret, put where its document wants it, bound to the secret's hosts."""

from typing import Final
from urllib.parse import urlencode

import msgspec
from msgspec import Struct, structs

from chassis.egress import Credential, EgressError, Request
from chassis.secret import BasicSecret, BearerSecret, HeaderSecret, QuerySecret, Secret, key_material
from contracts.apis import ApiCall, ApiScheme
from contracts.limits import KIB
from executor.errors import BadConfig, Refused, Unreachable
from executor.node import Context, SecretReference

_TOKEN_SECONDS: Final = 20.0


class _Token(Struct):
    access_token: str


_token: Final = msgspec.json.Decoder(_Token)


async def identity(
    call: ApiCall,
    reference: SecretReference | None,
    shown_as: str | None,
    cookies: list[str],
    context: Context,
) -> Credential | None:
    """What goes with the request. `cookies`: those that it has anyway. Raises `BadConfig`, and what asking for a token does."""
    if reference is None:
        return None
    scheme = next((each for each in call.schemes if shown_as in (None, each.name)), None)
    if scheme is None:
        raise BadConfig("The operation has no such way to show who calls.", field="/auth_as")
    opened = await context.open(reference)
    match scheme.kind:
        case "basic":
            value: HeaderSecret | QuerySecret | BearerSecret | BasicSecret = _pair(opened)
        case "oauth2":
            value = BearerSecret(token=await _access_token(scheme, opened, context))
        case "bearer":
            value = BearerSecret(token=_key(opened))
        case "header":
            value = HeaderSecret(name=scheme.field, value=_key(opened))
        case "query":
            value = QuerySecret(name=scheme.field, value=_key(opened))
        case "cookie":
            key = f"{scheme.field}={_key(opened).reveal_text()}"
            value = HeaderSecret(name="Cookie", value=Secret("; ".join([*cookies, key])))
    return structs.replace(opened, value=value)


def _pair(opened: Credential) -> BasicSecret:
    if not isinstance(opened.value, BasicSecret):
        raise BadConfig("The secret is not of the kind `basic`.", field="/auth")
    return opened.value


def _key(opened: Credential) -> Secret:
    if isinstance(opened.value, BasicSecret):
        raise BadConfig("The secret is a user and a password, and a key is wanted.", field="/auth")
    return key_material(opened.value)


async def _access_token(scheme: ApiScheme, opened: Credential, context: Context) -> Secret:
    """Client credentials (RFC 6749, 4.4): asked for anew by each attempt, kept nowhere."""
    pair = _pair(opened)
    form = {"grant_type": "client_credentials"} | (
        {"scope": " ".join(scheme.scopes)} if scheme.scopes else {}
    )
    request = Request(
        method="POST",
        url=scheme.token_url,
        headers={"Content-Type": "application/x-www-form-urlencoded", "Accept": "application/json"},
        body=urlencode(form).encode(),
        timeout_s=_TOKEN_SECONDS,
        max_bytes=64 * KIB,
        follow_redirects=False,
        credential=structs.replace(opened, value=pair),
        repeatable=True,
    )
    try:
        response = await context.egress.request(request)
    except EgressError as error:
        if error.code == "secret.not_allowed":
            raise
        raise Unreachable("The server that gives tokens did not answer.") from None
    if response.status != 200:
        raise Refused(
            f"The server that gives tokens answered with status {response.status}.",
            status=response.status,
            retryable=response.status >= 500 or response.status == 429,
        )
    try:
        token = _token.decode(response.body).access_token
    except (msgspec.DecodeError, ValueError):
        raise Refused("The server that gives tokens answered with none.") from None
    if not token or not token.isascii() or not token.isprintable():
        raise Refused("The server that gives tokens answered with none.")
    return Secret(token)
