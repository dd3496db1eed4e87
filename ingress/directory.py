"""Which address belongs to which trigger: folded from DOMAIN into memory, and followed for ever.

Ingress starts no run without having read the directory to its end once; after that a delivery never waits for it.
"""

from functools import reduce
from typing import Final

from msgspec import Struct, structs

from chassis.followed import DomainFollowed
from chassis.ports import Reader
from contracts.commits import DomainCommit
from contracts.limits import CHAT_BODY_BYTES
from contracts.triggers import (
    Chat,
    ChatChanged,
    ChatCreated,
    Form,
    FormChanged,
    FormCreated,
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
from contracts.workflows import OrgEvent, OrgSays, said

_NOTHING: Final = OrgSays()


class Trigger(Struct, frozen=True, kw_only=True):
    """A trigger as ingress needs it."""

    org: str
    id: str
    workflow: str
    webhook: Webhook
    token: str
    test_token: str
    version: int = 0
    plan: str = ""
    """Empty until the workflow is published."""
    enabled: bool = True
    form: Form | None = None
    """None: what comes to the address is a delivery."""
    chat: Chat | None = None
    """What is delivered is somebody's message."""


def evolve(trigger: Trigger | None, event: TriggerEvent, org: str, trigger_id: str) -> Trigger | None:
    """The trigger after one more fact; None when it is gone (or was never made)."""
    if isinstance(event, TriggerCreated | FormCreated | ChatCreated):
        made = Trigger(
            org=org,
            id=trigger_id,
            workflow=event.workflow,
            webhook=event.webhook if isinstance(event, TriggerCreated) else Webhook(),
            token=event.token,
            test_token=event.test_token,
        )
        match event:
            case FormCreated():
                return structs.replace(made, form=event.on)
            case ChatCreated():
                return _talks(made, event.on)
            case _:
                return made
    return None if trigger is None else _changed(trigger, event)


def _talks(trigger: Trigger, chat: Chat) -> Trigger:
    """A chat's address takes messages as any other takes deliveries, and waits for what its run answers."""
    webhook = Webhook(
        mode="respond",
        respond_timeout_s=chat.respond_timeout_s,
        per_minute=chat.per_minute,
        body_bytes=CHAT_BODY_BYTES,
        sensitive=chat.sensitive,
    )
    return structs.replace(trigger, chat=chat, webhook=webhook)


def _changed(trigger: Trigger, event: TriggerEvent) -> Trigger | None:
    match event:
        case TriggerChanged():
            return structs.replace(trigger, webhook=event.webhook)
        case FormChanged():
            return structs.replace(trigger, form=event.on)
        case ChatChanged():
            return _talks(trigger, event.on)
        case TokenRotated():
            return structs.replace(trigger, token=event.token, test_token=event.test_token)
        case TriggerBound():
            return structs.replace(trigger, version=event.version, plan=event.plan)
        case TriggerEnabled():
            return structs.replace(trigger, enabled=True)
        case TriggerDisabled():
            return structs.replace(trigger, enabled=False)
        case TriggerDeleted():
            return None
        case _:
            return trigger  # What has no address is not here.


class Directory:
    """Triggers by the hash of their token, and what every org says of its runs."""

    def __init__(self, reader: Reader) -> None:
        self._by_id: dict[tuple[str, str], Trigger] = {}
        self._by_token: dict[str, tuple[Trigger, bool]] = {}
        self._says: dict[str, OrgSays] = {}
        self._domain = DomainFollowed(reader, {"trigger": self._take_trigger, "org": self._take_org})
        self.complete = self._domain.complete

    def find(self, token_hash: str) -> tuple[Trigger, bool] | None:
        """The trigger behind an address, and whether the address is its test address."""
        return self._by_token.get(token_hash)

    def says(self, org: str) -> OrgSays:
        """What an org says of all its runs."""
        return self._says.get(org, _NOTHING)

    async def follow(self) -> None:
        """Read DOMAIN from its beginning and go on; `complete` is set when the past has been read."""
        await self._domain.follow()

    def _take_org(self, org: str, _id: str, commit: DomainCommit[OrgEvent]) -> None:
        self._says[org] = reduce(said, commit.events, self.says(org))

    def _take_trigger(self, org: str, trigger_id: str, commit: DomainCommit[TriggerEvent]) -> None:
        before = self._by_id.pop((org, trigger_id), None)
        if before is not None:
            self._by_token.pop(before.token, None)
            self._by_token.pop(before.test_token, None)
        after = before
        for event in commit.events:
            after = evolve(after, event, org, trigger_id)
        if after is not None:
            self.put(after)

    def put(self, trigger: Trigger) -> None:
        """Know a trigger by its address and by its test address."""
        self._by_id[trigger.org, trigger.id] = trigger
        self._by_token[trigger.token] = (trigger, False)
        self._by_token[trigger.test_token] = (trigger, True)
