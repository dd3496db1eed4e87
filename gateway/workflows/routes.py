"""Workflows over HTTP."""

from typing import Final

from litestar import delete, get, post, put
from litestar.di import NamedDependency
from litestar.params import FromPath, JSONBody
from litestar.types import ControllerRouterHandler
from msgspec import Raw

from contracts.subjects import DOMAIN
from gateway.callers import Caller
from gateway.pages import DEFAULT_ROWS, Page
from gateway.parameters import Cursor, Limit, number
from gateway.places import Places
from gateway.workflows.compiling import Compiled
from gateway.workflows.queries import WorkflowQueries
from gateway.workflows.store import Workflows
from gateway.workflows.views import (
    CreatedWorkflow,
    CreateWorkflow,
    PublishedVersion,
    RenameWorkflow,
    SavedVersion,
    SaveVersion,
    ValidateWorkflow,
    Validation,
    VersionDefinition,
    VersionView,
    WorkflowView,
)


@get("/workflows")
async def list_workflows(
    caller: NamedDependency[Caller],
    places: NamedDependency[Places],
    workflow_queries: NamedDependency[WorkflowQueries],
    cursor: Cursor = None,
    limit: Limit = DEFAULT_ROWS,
) -> Page[WorkflowView]:
    """The org's workflows, the newest first."""
    await places.caught_up(caller, DOMAIN)
    return await workflow_queries.list(caller.org, cursor, limit)


@post("/workflows")
async def create_workflow(
    caller: NamedDependency[Caller], workflows: NamedDependency[Workflows], data: JSONBody[CreateWorkflow]
) -> CreatedWorkflow:
    """Create or import a workflow. What comes in is stored and nothing more: no trigger, no run, no check of its nodes."""
    workflow_id, changed = await workflows.create(caller, data.name, data.definition)
    return CreatedWorkflow(id=workflow_id, name=data.name, latest_version=changed.state.latest)


@post("/workflows/validate", status_code=200)
async def validate_workflow(
    caller: NamedDependency[Caller], workflows: NamedDependency[Workflows], data: JSONBody[ValidateWorkflow]
) -> Validation:
    """Every fault of a workflow that is not saved."""
    return _validation(await workflows.validate(caller, "draft", 0, bytes(data.definition)))


@get("/workflows/{workflow_id:str}")
async def get_workflow(
    caller: NamedDependency[Caller],
    places: NamedDependency[Places],
    workflow_queries: NamedDependency[WorkflowQueries],
    workflow_id: FromPath[str],
) -> WorkflowView:
    """One workflow."""
    await places.caught_up(caller, DOMAIN)
    return await workflow_queries.get(caller.org, workflow_id)


@put("/workflows/{workflow_id:str}/name", status_code=204)
async def rename_workflow(
    caller: NamedDependency[Caller],
    workflows: NamedDependency[Workflows],
    workflow_id: FromPath[str],
    data: JSONBody[RenameWorkflow],
) -> None:
    """Give it another name."""
    await workflows.rename(caller, workflow_id, data.name)


@delete("/workflows/{workflow_id:str}")
async def delete_workflow(
    caller: NamedDependency[Caller], workflows: NamedDependency[Workflows], workflow_id: FromPath[str]
) -> None:
    """Delete the workflow and its triggers. Runs under way go on; the history stays."""
    await workflows.delete(caller, workflow_id)


@get("/workflows/{workflow_id:str}/versions")
async def list_versions(
    caller: NamedDependency[Caller],
    places: NamedDependency[Places],
    workflow_queries: NamedDependency[WorkflowQueries],
    workflow_id: FromPath[str],
    cursor: Cursor = None,
    limit: Limit = DEFAULT_ROWS,
) -> Page[VersionView]:
    """Its versions, the newest first."""
    await places.caught_up(caller, DOMAIN)
    return await workflow_queries.versions(caller.org, workflow_id, number(cursor, "cursor"), limit)


@post("/workflows/{workflow_id:str}/versions")
async def save_version(
    caller: NamedDependency[Caller],
    workflows: NamedDependency[Workflows],
    workflow_id: FromPath[str],
    data: JSONBody[SaveVersion],
) -> SavedVersion:
    """Save a new version. It is saved with its faults, and also while no orchestrator is there."""
    changed = await workflows.draft(caller, workflow_id, data.definition)
    return SavedVersion(workflow=workflow_id, version=changed.state.latest)


@get("/workflows/{workflow_id:str}/versions/{version:int}")
async def get_version(
    caller: NamedDependency[Caller],
    workflows: NamedDependency[Workflows],
    workflow_id: FromPath[str],
    version: FromPath[int],
) -> VersionDefinition:
    """A version as it was saved."""
    definition = await workflows.definition(caller, workflow_id, version)
    return VersionDefinition(workflow=workflow_id, version=version, definition=Raw(definition))


@post("/workflows/{workflow_id:str}/versions/{version:int}/validate", status_code=200)
async def validate_version(
    caller: NamedDependency[Caller],
    workflows: NamedDependency[Workflows],
    workflow_id: FromPath[str],
    version: FromPath[int],
) -> Validation:
    """Every fault of a saved version."""
    definition = await workflows.definition(caller, workflow_id, version)
    return _validation(await workflows.validate(caller, workflow_id, version, definition))


@post("/workflows/{workflow_id:str}/versions/{version:int}/publish", status_code=200)
async def publish_version(
    caller: NamedDependency[Caller],
    workflows: NamedDependency[Workflows],
    workflow_id: FromPath[str],
    version: FromPath[int],
) -> PublishedVersion:
    """Compile the version and let the workflow's triggers follow it. Safe to repeat."""
    changed, triggers = await workflows.publish(caller, workflow_id, version)
    return PublishedVersion(workflow=workflow_id, version=version, plan=changed.state.plan, triggers=triggers)


def _validation(compiled: Compiled) -> Validation:
    return Validation(valid=compiled.plan is not None, faults=tuple(compiled.faults))


ROUTES: Final[list[ControllerRouterHandler]] = [
    list_workflows,
    create_workflow,
    validate_workflow,
    get_workflow,
    rename_workflow,
    delete_workflow,
    list_versions,
    save_version,
    get_version,
    validate_version,
    publish_version,
]
