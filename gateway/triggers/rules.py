"""What may happen to a trigger."""

from typing import Final, TypeAlias, assert_never

from msgspec import Struct, structs

from contracts.limits import Id, Name, Sha256
from contracts.schedules import Schedule
from contracts.triggers import (
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
    """None: it is an address."""
    token: str = ""
    test_token: str = ""
    enabled: bool = False
    version: int = 0
    plan: str = ""
    """Empty: its workflow was never published."""


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
    Create | Change | CreateSchedule | ChangeSchedule | RotateToken | Bind | Enable | Disable | Delete
)


def evolve(state: TriggerState, event: TriggerEvent) -> TriggerState:
    match event:
        case TriggerCreated():
            return TriggerState(
                exists=True,
                name=event.name,
                workflow=event.workflow,
                webhook=event.webhook,
                token=event.token,
                test_token=event.test_token,
                enabled=True,
            )
        case TriggerChanged():
            return structs.replace(state, name=event.name, webhook=event.webhook)
        case ScheduleCreated():
            return TriggerState(
                exists=True,
                name=event.name,
                workflow=event.workflow,
                schedule=event.schedule,
                enabled=True,
            )
        case ScheduleChanged():
            return structs.replace(state, name=event.name, schedule=event.schedule)
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


def decide(state: TriggerState, command: Command) -> list[TriggerEvent]:
    """Raises `Rejected`. Asking for what is already so changes nothing."""
    if isinstance(command, Create):
        return [] if state.workflow else [TriggerCreated(**structs.asdict(command))]
    if isinstance(command, CreateSchedule):
        return [] if state.workflow else [ScheduleCreated(**structs.asdict(command))]
    if not state.exists:
        raise absent("trigger")
    match command:
        case Change() | ChangeSchedule():
            return _change(state, command)
        case RotateToken():
            _is_address(state)
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


def _change(state: TriggerState, command: Change | ChangeSchedule) -> list[TriggerEvent]:
    if isinstance(command, Change):
        _is_address(state)
        same = (state.name, state.webhook) == (command.name, command.webhook)
        return [] if same else [TriggerChanged(name=command.name, webhook=command.webhook)]
    if state.schedule is None:
        raise Rejected("conflict", "The trigger is an address and no schedule.")
    same = (state.name, state.schedule) == (command.name, command.schedule)
    return [] if same else [ScheduleChanged(name=command.name, schedule=command.schedule)]


def _is_address(state: TriggerState) -> None:
    if state.schedule is not None:
        raise Rejected("conflict", "The trigger is a schedule and no address.")


TRIGGER: Final = Aggregate[TriggerState, TriggerEvent](name="trigger", new=TriggerState(), evolve=evolve)
