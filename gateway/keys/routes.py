"""API keys over HTTP."""

from typing import Final

from litestar import delete, get, post
from litestar.di import NamedDependency
from litestar.params import FromPath, JSONBody
from litestar.types import ControllerRouterHandler

from gateway.callers import Caller
from gateway.keys.store import Keys
from gateway.keys.views import IssuedKey, IssueKey, KeyList


@get("/keys")
async def list_keys(caller: NamedDependency[Caller], keys: NamedDependency[Keys]) -> KeyList:
    """The org's keys, revoked ones included."""
    return KeyList(items=await keys.list(caller.org))


@post("/keys")
async def issue_key(
    caller: NamedDependency[Caller], keys: NamedDependency[Keys], data: JSONBody[IssueKey]
) -> IssuedKey:
    """Make a key. It is told in this answer and never again."""
    issued = await keys.issue(caller, data.name, data.scopes, data.expires)
    return IssuedKey(id=issued.id, key=issued.text.reveal_text())


@delete("/keys/{key_id:str}")
async def revoke_key(
    caller: NamedDependency[Caller], keys: NamedDependency[Keys], key_id: FromPath[str]
) -> None:
    """Refuse the key from now on, everywhere within 5 seconds."""
    await keys.revoke(caller, key_id)


ROUTES: Final[list[ControllerRouterHandler]] = [list_keys, issue_key, revoke_key]
