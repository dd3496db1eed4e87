"""Pools over HTTP."""

from typing import Final

from litestar import get, post
from litestar.di import NamedDependency
from litestar.params import FromPath, JSONBody
from litestar.types import ControllerRouterHandler

from chassis.edge.problems import Problem
from contracts.pools import DrainLabelled
from contracts.workers import IssueToken
from gateway.callers import Caller
from gateway.keys.store import Keys
from gateway.keys.views import IssuedKey
from gateway.permissions import pool_in, token_scopes
from gateway.pools.store import Pools
from gateway.pools.views import ExecutorList, ExecutorView, PoolList, PoolView


@get("/pools")
async def list_pools(caller: NamedDependency[Caller], pools: NamedDependency[Pools]) -> PoolList:
    """Every pool with its executors, what waits in it and what is under way; of workers outside the org's own."""
    return PoolList(items=await pools.list(caller.org))


@get("/pools/{pool:str}")
async def get_pool(
    caller: NamedDependency[Caller], pools: NamedDependency[Pools], pool: FromPath[str]
) -> PoolView:
    """One pool."""
    return await pools.get(caller.org, pool)


@post("/pools/{pool:str}/pause", status_code=200)
async def pause_pool(
    caller: NamedDependency[Caller], pools: NamedDependency[Pools], pool: FromPath[str]
) -> PoolView:
    """Hold what waits in a pool, over restarts too, until it is let go on. What is under way goes on."""
    return await pools.pause(caller.org, pool)


@post("/pools/{pool:str}/resume", status_code=200)
async def resume_pool(
    caller: NamedDependency[Caller], pools: NamedDependency[Pools], pool: FromPath[str]
) -> PoolView:
    """Let go on what was held."""
    return await pools.resume(caller.org, pool)


@post("/pools/{pool:str}/executors/{executor:str}/drain", status_code=200)
async def drain_executor(
    pools: NamedDependency[Pools], pool: FromPath[str], executor: FromPath[str]
) -> ExecutorView:
    """Have an executor take nothing more. It ends what it has, however long that takes, and leaves."""
    return await pools.drain(pool, executor)


@post("/pools/{pool:str}/drain", status_code=200)
async def drain_labelled(
    pools: NamedDependency[Pools], pool: FromPath[str], data: JSONBody[DrainLabelled]
) -> ExecutorList:
    """Have all executors of a pool with these labels take nothing more, end what they have, and leave."""
    return ExecutorList(items=list(await pools.drain_labelled(pool, data.labels)))


@post("/pools/{pool:str}/tokens")
async def issue_token(
    caller: NamedDependency[Caller],
    keys: NamedDependency[Keys],
    pool: FromPath[str],
    data: JSONBody[IssueToken],
) -> IssuedKey:
    """Make a token for the workers outside of one pool: its name begins with `ext-`. It is shown once; revoke it as a key."""
    scopes = token_scopes(pool)
    if not pool_in(scopes):
        raise Problem("malformed", "The name of a pool of workers is `ext-` and 1 to 28 of a-z, 0-9 and -.")
    issued = await keys.issue(caller, data.name, scopes, data.expires)
    return IssuedKey(id=issued.id, key=issued.text.reveal_text())


ROUTES: Final[list[ControllerRouterHandler]] = [
    list_pools,
    get_pool,
    pause_pool,
    resume_pool,
    drain_executor,
    drain_labelled,
    issue_token,
]
