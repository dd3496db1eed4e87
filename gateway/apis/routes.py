"""Imported APIs over HTTP."""

from typing import Final

from litestar import delete, get, post
from litestar.di import NamedDependency
from litestar.params import FromPath, JSONBody
from litestar.types import ControllerRouterHandler

from gateway.apis.store import Apis
from gateway.apis.views import ApiList, ApiVersion, ImportApi
from gateway.callers import Caller
from gateway.rejected import absent


@get("/apis")
async def list_apis(caller: NamedDependency[Caller], apis: NamedDependency[Apis]) -> ApiList:
    """The APIs that the org has imported."""
    return ApiList(items=await apis.list(caller.org))


@post("/apis", status_code=200)
async def import_api(
    caller: NamedDependency[Caller], apis: NamedDependency[Apis], data: JSONBody[ImportApi]
) -> ApiVersion:
    """Import an OpenAPI document: each operation becomes a node type `api.<name>.<operation>`.

    Again under the same name makes a new version, and tells what is different; workflows that are published keep theirs.
    """
    return await apis.bring(caller, data)


@get("/apis/{api_name:str}")
async def get_api(
    caller: NamedDependency[Caller], apis: NamedDependency[Apis], api_name: FromPath[str]
) -> ApiVersion:
    """The newest import of an API, whole."""
    return await apis.version(caller.org, api_name, None)


@get("/apis/{api_name:str}/versions/{version:str}")
async def get_api_version(
    caller: NamedDependency[Caller],
    apis: NamedDependency[Apis],
    api_name: FromPath[str],
    version: FromPath[str],
) -> ApiVersion:
    """One import of an API, and what it changed."""
    if not (version.isascii() and version.isdecimal() and len(version) < 6):
        raise absent("version of the API")
    return await apis.version(caller.org, api_name, int(version))


@delete("/apis/{api_name:str}")
async def remove_api(
    caller: NamedDependency[Caller], apis: NamedDependency[Apis], api_name: FromPath[str]
) -> None:
    """Offer its node types no more. What was published with them goes on."""
    await apis.remove(caller, api_name)


ROUTES: Final[list[ControllerRouterHandler]] = [list_apis, import_api, get_api, get_api_version, remove_api]
