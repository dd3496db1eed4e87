"""What may happen to a workflow."""

from typing import Final, TypeAlias, assert_never

from msgspec import Struct, structs

from contracts.cases import CaseName
from contracts.limits import CASES, Id, Marks, Name, Sha256
from contracts.payloads import Payload
from contracts.workflows import (
    CaseKept,
    CaseRemoved,
    VersionDrafted,
    VersionPublished,
    WorkflowCreated,
    WorkflowDeleted,
    WorkflowEvent,
    WorkflowRenamed,
)
from gateway.domain import Aggregate
from gateway.rejected import Rejected, absent


class KeptCase(Struct, frozen=True, kw_only=True):
    """A test case, and which keeping of one it is."""

    revision: int
    case: Payload
    run: str | None


class WorkflowState(Struct, frozen=True, kw_only=True):
    """A workflow as its history tells it."""

    name: str = ""
    exists: bool = False
    latest: int = 0
    definitions: tuple[Payload, ...] = ()
    """By version: the first one is version 1."""
    published: int = 0
    """0: never."""
    plan: str = ""
    sensitive: Marks = ()
    """What the published version marks of what somebody starts it with."""
    revisions: int = 0
    """How often a test case was kept."""
    cases: dict[str, KeptCase] = {}
    """Those that there are, by name."""

    def definition(self, version: int) -> Payload:
        if not self.exists:
            raise absent("workflow")
        if not 1 <= version <= self.latest:
            raise absent("version")
        return self.definitions[version - 1]

    def case(self, name: str) -> KeptCase:
        if not self.exists:
            raise absent("workflow")
        if name not in self.cases:
            raise absent("case")
        return self.cases[name]


class Create(Struct, frozen=True, kw_only=True):
    name: Name
    definition: Payload | None = None


class Rename(Struct, frozen=True, kw_only=True):
    name: Name


class Draft(Struct, frozen=True, kw_only=True):
    definition: Payload


class Publish(Struct, frozen=True, kw_only=True):
    """The version compiled to this plan."""

    version: int
    plan: Sha256
    sensitive: Marks = ()


class KeepCase(Struct, frozen=True, kw_only=True):
    name: CaseName
    case: Payload
    run: Id | None = None


class RemoveCase(Struct, frozen=True, kw_only=True):
    name: CaseName


class Delete(Struct, frozen=True, kw_only=True):
    pass


Command: TypeAlias = Create | Rename | Draft | Publish | KeepCase | RemoveCase | Delete


def evolve(state: WorkflowState, event: WorkflowEvent) -> WorkflowState:
    match event:
        case WorkflowCreated():
            return structs.replace(state, exists=True, name=event.name)
        case WorkflowRenamed():
            return structs.replace(state, name=event.name)
        case VersionDrafted():
            return structs.replace(
                state, latest=event.version, definitions=(*state.definitions, event.definition)
            )
        case VersionPublished():
            return structs.replace(state, published=event.version, plan=event.plan, sensitive=event.sensitive)
        case CaseKept():
            kept = KeptCase(revision=event.revision, case=event.case, run=event.run)
            return structs.replace(state, revisions=event.revision, cases={**state.cases, event.name: kept})
        case CaseRemoved():
            left = {name: kept for name, kept in state.cases.items() if name != event.name}
            return structs.replace(state, cases=left)
        case WorkflowDeleted():
            return structs.replace(state, exists=False)
    assert_never(event)


def decide(state: WorkflowState, command: Command) -> list[WorkflowEvent]:
    """Raises `Rejected`. Asking for what is already so changes nothing."""
    if isinstance(command, Create):
        return _create(state, command)
    if not state.exists:
        raise absent("workflow")
    match command:
        case Rename():
            return [] if command.name == state.name else [WorkflowRenamed(name=command.name)]
        case Draft():
            return [VersionDrafted(version=state.latest + 1, definition=command.definition)]
        case Publish():
            return _publish(state, command)
        case KeepCase():
            return _keep_case(state, command)
        case RemoveCase():
            state.case(command.name)
            return [CaseRemoved(name=command.name)]
        case Delete():
            return [WorkflowDeleted()]
    assert_never(command)


def _create(state: WorkflowState, command: Create) -> list[WorkflowEvent]:
    if state.latest or state.name:
        return []  # Its id is new each time: this is our own first try, which nobody answered.
    events: list[WorkflowEvent] = [WorkflowCreated(name=command.name)]
    if command.definition is not None:
        events.append(VersionDrafted(version=1, definition=command.definition))
    return events


def _publish(state: WorkflowState, command: Publish) -> list[WorkflowEvent]:
    state.definition(command.version)
    if (state.published, state.plan) == (command.version, command.plan):
        return []
    return [VersionPublished(version=command.version, plan=command.plan, sensitive=command.sensitive)]


def _keep_case(state: WorkflowState, command: KeepCase) -> list[WorkflowEvent]:
    before = state.cases.get(command.name)
    if before is not None and before.case == command.case:
        return []
    if before is None and len(state.cases) >= CASES:
        raise Rejected("conflict", f"A workflow has at most {CASES} cases.")
    return [CaseKept(name=command.name, revision=state.revisions + 1, case=command.case, run=command.run)]


WORKFLOW: Final = Aggregate[WorkflowState, WorkflowEvent](name="workflow", new=WorkflowState(), evolve=evolve)
