"""What may happen to a trigger."""

from collections.abc import Mapping
from typing import Any, Final, TypeAlias, assert_never

from msgspec import Struct, structs

from contracts.limits import Id, Name, Sha256
from contracts.schedules import Schedule
from contracts.triggers import (
    Chat,
    ChatChanged,
    ChatCreated,
    EventChanged,
    EventCreated,
    Form,
    FormChanged,
    FormCreated,
    Happening,
    Occasion,
    OccasionChanged,
    OccasionCreated,
    Poll,
    PollChanged,
    PollCreated,
    RunEnd,
    RunEndChanged,
    RunEndCreated,
    ScheduleChanged,
    ScheduleCreated,
    TokenRotated,
    TriggerBound,
    TriggerChanged,
    TriggerCreated,
    TriggerDeleted,
    TriggerDisabled,
    TriggerEnabled,
    TriggerEvent,
    Webhook,
)
from gateway.domain import Aggregate
from gateway.rejected import Rejected, absent


class TriggerState(Struct, frozen=True, kw_only=True):
    """A trigger as its history tells it."""

    exists: bool = False
    name: str = ""
    workflow: str = ""
    webhook: Webhook = Webhook()
    schedule: Schedule | None = None
    """None: it is no schedule."""
    on: Occasion | None = None
    """None: it is an address or a schedule."""
    token: str = ""
    test_token: str = ""
    enabled: bool = False
    version: int = 0
    plan: str = ""
    """Empty: its workflow was never published."""

    @property
    def kind(self) -> str:
        if self.on is not None:
            return str(self.on.__struct_config__.tag)
        return "webhook" if self.schedule is None else "schedule"


class Create(Struct, frozen=True, kw_only=True):
    name: Name
    workflow: Id
    webhook: Webhook
    token: Sha256
    test_token: Sha256


class Change(Struct, frozen=True, kw_only=True):
    name: Name
    webhook: Webhook


class CreateSchedule(Struct, frozen=True, kw_only=True):
    name: Name
    workflow: Id
    schedule: Schedule


class ChangeSchedule(Struct, frozen=True, kw_only=True):
    name: Name
    schedule: Schedule


class CreateOccasion(Struct, frozen=True, kw_only=True):
    name: Name
    workflow: Id
    on: Occasion
    token: str = ""
    """The hashes of an address' tokens, where it has one."""
    test_token: str = ""
    plan: str = ""
    """Of the runs that look, where it polls."""


class ChangeOccasion(Struct, frozen=True, kw_only=True):
    name: Name
    on: Occasion
    plan: str = ""


class RotateToken(Struct, frozen=True, kw_only=True):
    token: Sha256
    test_token: Sha256


class Bind(Struct, frozen=True, kw_only=True):
    """Runs that start from now on follow this plan."""

    version: int
    plan: Sha256


class Enable(Struct, frozen=True, kw_only=True):
    pass


class Disable(Struct, frozen=True, kw_only=True):
    pass


class Delete(Struct, frozen=True, kw_only=True):
    pass


Command: TypeAlias = (
    Create
    | Change
    | CreateSchedule
    | ChangeSchedule
    | CreateOccasion
    | ChangeOccasion
    | RotateToken
    | Bind
    | Enable
    | Disable
    | Delete
)

_CREATED: Final[Mapping[type[Occasion], Any]] = {
    RunEnd: RunEndCreated,
    Happening: EventCreated,
    Form: FormCreated,
    Chat: ChatCreated,
    Poll: PollCreated,
}
_CHANGED: Final[Mapping[type[Occasion], Any]] = {
    RunEnd: RunEndChanged,
    Happening: EventChanged,
    Form: FormChanged,
    Chat: ChatChanged,
    Poll: PollChanged,
}
_NAMES: Final[Mapping[str, str]] = {
    "webhook": "an address",
    "schedule": "a schedule",
    "run_end": "one of other runs' ends",
    "event": "one of events",
    "form": "a form",
    "chat": "a chat",
    "poll": "a poll",
}
ADDRESSES: Final = frozenset({"webhook", "form", "chat"})
"""Kinds that have an address, and a test address beside it."""


def evolve(state: TriggerState, event: TriggerEvent) -> TriggerState:
    match event:
        case TriggerCreated() | ScheduleCreated() | OccasionCreated():
            return _begun(event)
        case TriggerChanged():
            return structs.replace(state, name=event.name, webhook=event.webhook)
        case ScheduleChanged():
            return structs.replace(state, name=event.name, schedule=event.schedule)
        case OccasionChanged():
            return structs.replace(state, name=event.name, on=event.on)
        case TokenRotated():
            return structs.replace(state, token=event.token, test_token=event.test_token)
        case TriggerBound():
            return structs.replace(state, version=event.version, plan=event.plan)
        case TriggerEnabled():
            return structs.replace(state, enabled=True)
        case TriggerDisabled():
            return structs.replace(state, enabled=False)
        case TriggerDeleted():
            return structs.replace(state, exists=False, enabled=False)
    assert_never(event)


def _begun(event: TriggerCreated | ScheduleCreated | OccasionCreated) -> TriggerState:
    state = TriggerState(exists=True, name=event.name, workflow=event.workflow, enabled=True)
    match event:
        case TriggerCreated():
            return structs.replace(
                state, webhook=event.webhook, token=event.token, test_token=event.test_token
            )
        case ScheduleCreated():
            return structs.replace(state, schedule=event.schedule)
        case FormCreated() | ChatCreated():
            return structs.replace(state, on=event.on, token=event.token, test_token=event.test_token)
        case _:
            return structs.replace(state, on=event.on)


def decide(state: TriggerState, command: Command) -> list[TriggerEvent]:
    """Raises `Rejected`. Asking for what is already so changes nothing."""
    if isinstance(command, Create | CreateSchedule | CreateOccasion):
        return [] if state.workflow else [_made(command)]
    if not state.exists:
        raise absent("trigger")
    match command:
        case Change() | ChangeSchedule() | ChangeOccasion():
            return _change(state, command)
        case RotateToken():
            if state.kind not in ADDRESSES:
                raise Rejected("conflict", "The trigger has no address.")
            return [TokenRotated(token=command.token, test_token=command.test_token)]
        case Bind():
            bound = (state.version, state.plan) == (command.version, command.plan)
            return [] if bound else [TriggerBound(version=command.version, plan=command.plan)]
        case Enable():
            return [] if state.enabled else [TriggerEnabled()]
        case Disable():
            return [TriggerDisabled()] if state.enabled else []
        case Delete():
            return [TriggerDeleted()]
    assert_never(command)


def _made(command: Create | CreateSchedule | CreateOccasion) -> TriggerEvent:
    said = structs.asdict(command)
    match command:
        case Create():
            return TriggerCreated(**said)
        case CreateSchedule():
            return ScheduleCreated(**said)
        case CreateOccasion():
            given = {name: value for name, value in said.items() if value}
            made: TriggerEvent = _CREATED[type(command.on)](**given)
            return made


def _change(state: TriggerState, command: Change | ChangeSchedule | ChangeOccasion) -> list[TriggerEvent]:
    match command:
        case Change():
            is_kind(state, "webhook")
            same = (state.name, state.webhook) == (command.name, command.webhook)
            return [] if same else [TriggerChanged(name=command.name, webhook=command.webhook)]
        case ChangeSchedule():
            is_kind(state, "schedule")
            same = (state.name, state.schedule) == (command.name, command.schedule)
            return [] if same else [ScheduleChanged(name=command.name, schedule=command.schedule)]
        case ChangeOccasion():
            is_kind(state, str(command.on.__struct_config__.tag))
            same = (state.name, state.on) == (command.name, command.on)
            # A poll's plan is another one when the engine that makes it is.
            given = {name: value for name, value in structs.asdict(command).items() if value}
            return [] if same else [_CHANGED[type(command.on)](**given)]
    assert_never(command)


def is_kind(state: TriggerState, wanted: str) -> None:
    """Raises `Rejected` where a trigger is of another kind: it stays of the kind that it was made."""
    if state.kind != wanted:
        raise Rejected("conflict", f"The trigger is {_NAMES[state.kind]} and not {_NAMES[wanted]}.")


TRIGGER: Final = Aggregate[TriggerState, TriggerEvent](name="trigger", new=TriggerState(), evolve=evolve)


def bound(state: TriggerState) -> TriggerState:
    """The trigger, when it has something to start. Raises `Rejected`."""
    if not state.plan:
        raise Rejected("conflict", "No version of the workflow is published.")
    return state
