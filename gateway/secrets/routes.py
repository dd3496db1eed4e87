"""Secrets over HTTP: in, never out."""

from typing import Final

from litestar import delete, get, post, put
from litestar.di import NamedDependency
from litestar.params import FromPath, JSONBody
from litestar.types import ControllerRouterHandler

from chassis.ids import receipt
from gateway.callers import Caller
from gateway.domain import cause_of
from gateway.secrets.store import Secrets
from gateway.secrets.views import (
    RotateSecret,
    SecretList,
    SecretView,
    StoreSecret,
    TriedSecret,
    TrySecret,
)


@get("/secrets")
async def list_secrets(caller: NamedDependency[Caller], secrets: NamedDependency[Secrets]) -> SecretList:
    """What may be known about the org's secrets."""
    return SecretList(items=await secrets.list(caller.org))


@post("/secrets")
async def store_secret(
    caller: NamedDependency[Caller], secrets: NamedDependency[Secrets], data: JSONBody[StoreSecret]
) -> SecretView:
    """Store a secret. Its value can be used and replaced, but never read again."""
    return await secrets.put(cause_of(caller), receipt(), data.name, data.value, data.allowed_hosts)


@get("/secrets/{secret_id:str}")
async def get_secret(
    caller: NamedDependency[Caller], secrets: NamedDependency[Secrets], secret_id: FromPath[str]
) -> SecretView:
    """What may be known about one secret."""
    return await secrets.describe(caller.org, secret_id)


@put("/secrets/{secret_id:str}")
async def replace_secret(
    caller: NamedDependency[Caller],
    secrets: NamedDependency[Secrets],
    secret_id: FromPath[str],
    data: JSONBody[StoreSecret],
) -> SecretView:
    """Replace name, value and hosts at once; the old value is gone."""
    return await secrets.replace(caller, secret_id, data.name, data.value, data.allowed_hosts)


@delete("/secrets/{secret_id:str}")
async def delete_secret(
    caller: NamedDependency[Caller], secrets: NamedDependency[Secrets], secret_id: FromPath[str]
) -> None:
    """Remove it. What still names it fails by name."""
    await secrets.delete(caller, secret_id)


@post("/secrets/{secret_id:str}/rotate", status_code=200)
async def rotate_secret(
    caller: NamedDependency[Caller],
    secrets: NamedDependency[Secrets],
    secret_id: FromPath[str],
    data: JSONBody[RotateSecret],
) -> SecretView:
    """A new value beside the old one, which opens for a while longer."""
    return await secrets.rotate(caller, secret_id, data.value, data.keep_previous_s)


@post("/secrets/{secret_id:str}/test", status_code=200)
async def test_secret(
    caller: NamedDependency[Caller],
    secrets: NamedDependency[Secrets],
    secret_id: FromPath[str],
    data: JSONBody[TrySecret],
) -> TriedSecret:
    """Try it: can it be opened, and what does an address of one of its hosts answer to it."""
    return await secrets.test(caller, secret_id, data.url)


ROUTES: Final[list[ControllerRouterHandler]] = [
    list_secrets,
    store_secret,
    get_secret,
    replace_secret,
    delete_secret,
    rotate_secret,
    test_secret,
]
