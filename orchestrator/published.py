"""What of a workflow runs may follow: a pure fold of its history, and the plan that a step which starts one gets."""

from collections.abc import Mapping
from typing import Final, TypeAlias

from msgspec import Struct, structs

from contracts.commits import DomainCommit
from contracts.errors import Failure
from contracts.plans import PlanNode
from contracts.workflows import VersionPublished, WorkflowCreated, WorkflowDeleted, WorkflowEvent
from orchestrator.control import Called
from orchestrator.inputs import NotReady


class Published(Struct, frozen=True, kw_only=True):
    """A workflow as whoever starts runs of it sees it."""

    exists: bool = False
    latest: int = 0
    """The version that was published last; 0: none was."""
    plans: Mapping[int, str] = {}
    """Of every version that was ever published."""


Workflows: TypeAlias = Mapping[tuple[str, str], Published]
"""By org and id, as far as somebody has looked."""
NOT_LOOKED: Final[Workflows] = {}


def add(published: Published, commit: DomainCommit[WorkflowEvent]) -> Published:
    """The workflow after one more commit of its history."""
    for event in commit.events:
        match event:
            case WorkflowCreated():
                published = structs.replace(published, exists=True)
            case WorkflowDeleted():
                published = structs.replace(published, exists=False)
            case VersionPublished():
                plans = {**published.plans, event.version: event.plan}
                published = structs.replace(published, latest=event.version, plans=plans)
    return published


def looked_up(
    called: Called, org: str, workflows: Workflows, node: PlanNode | None = None
) -> Called | Failure:
    """The call with the plan that its run follows for its whole life. Raises `NotReady` while nobody has looked."""
    key = org, called.workflow
    try:
        found = workflows[key]
    except KeyError:
        raise NotReady(workflow=key) from None
    if not found.exists:
        return _no(node, "child.no_workflow", f"There is no workflow {called.workflow}.")
    version = called.version or found.latest
    plan = found.plans.get(version)
    if plan is None:
        which = (
            f"Version {version} of workflow {called.workflow} is not"
            if version
            else f"No version of workflow {called.workflow} is"
        )
        return _no(node, "child.not_published", f"{which} published.")
    return structs.replace(called, version=version, plan=plan)


def _no(node: PlanNode | None, code: str, message: str) -> Failure:
    if node is None:
        return Failure(code=code, message=message)
    return Failure(code=code, message=message, node=node.id, field="/workflow")
