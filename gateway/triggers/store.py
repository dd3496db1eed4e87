"""Writes triggers."""

import secrets
from typing import Final

from msgspec import Struct, structs

from chassis.clock import Clock
from chassis.expressions import Language
from chassis.ids import digest, receipt
from chassis.sealing import BadPointer, parse_pointer
from chassis.secret import SecretValue
from chassis.vault import NoSuchSecret
from contracts.limits import EVENT_TRIGGERS
from contracts.schedules import Schedule
from contracts.subjects import DOMAIN
from contracts.triggers import Chat, Follows, Form, Occasion, Poll, RunEnd, Webhook
from gateway.callers import Caller
from gateway.domain import Cause, Changed, Domain, cause_of
from gateway.places import Places
from gateway.rejected import Rejected, absent
from gateway.secrets.store import Secrets
from gateway.triggers import rules
from gateway.triggers.binding import Binding
from gateway.triggers.dedupe import checked
from gateway.triggers.generated import GENERATE, generate, secret_of, with_secret
from gateway.triggers.looks import Looks
from gateway.triggers.occasions import checked as checked_occasion
from gateway.triggers.polls import plan_of
from gateway.triggers.rules import TRIGGER, TriggerState, is_kind
from gateway.triggers.schedules import checked as checked_schedule
from gateway.triggers.schedules import coming
from gateway.triggers.views import (
    Address,
    ChangedTrigger,
    ChangeTrigger,
    Coming,
    CreatedTrigger,
    CreateTrigger,
    NewSecret,
    PreviewSchedule,
    RotatedSecret,
)
from gateway.workflows.compiling import Compiler
from gateway.workflows.rules import WORKFLOW

TOKEN_BYTES: Final = 16


class Tokens(Struct, frozen=True):
    """What stands in a trigger's two addresses: 128 random bits each."""

    token: str
    test: str

    @staticmethod
    def new() -> "Tokens":
        return Tokens(secrets.token_urlsafe(TOKEN_BYTES), secrets.token_urlsafe(TOKEN_BYTES))

    def hashes(self) -> dict[str, str]:
        return {"token": digest(self.token.encode()), "test_token": digest(self.test.encode())}


class Triggers:
    """Every change of a trigger."""

    def __init__(  # noqa: PLR0913  # The composition root names every part once.
        self,
        *,
        domain: Domain,
        binding: Binding,
        secrets: Secrets,
        places: Places,
        language: Language,
        looks: Looks,
        clock: Clock,
        public_url: str,
        compiler: Compiler,
    ) -> None:
        self._domain, self._binding, self._secrets, self._looks = domain, binding, secrets, looks
        self._places, self._language, self._public_url = places, language, public_url.rstrip("/")
        self._clock, self._compiler = clock, compiler

    async def create(self, caller: Caller, wanted: CreateTrigger) -> CreatedTrigger:
        if not (await self._domain.load(WORKFLOW, caller.org, wanted.workflow)).exists:
            raise absent("workflow")
        if sum(each is not None for each in (wanted.webhook, wanted.schedule, wanted.on)) > 1:
            raise Rejected("malformed", "A trigger has one of `webhook`, `schedule` and `on`.")
        if wanted.schedule is not None:
            return await self._create_schedule(caller, wanted, wanted.schedule)
        if wanted.on is not None:
            return await self._create_occasion(caller, wanted, wanted.on)
        cause, trigger_id, tokens = cause_of(caller), receipt(), Tokens.new()
        webhook, secret = await self._settled(cause, trigger_id, wanted.webhook or Webhook())
        command = rules.Create(name=wanted.name, workflow=wanted.workflow, webhook=webhook, **tokens.hashes())
        await self._change(cause, trigger_id, command)
        # After it exists: whoever publishes meanwhile finds it, or we find what was published.
        await self._binding.bind(cause, wanted.workflow, trigger_id)
        state = await self._domain.load(TRIGGER, caller.org, trigger_id)
        return CreatedTrigger(
            id=trigger_id,
            address=self._address(tokens),
            secret=secret,
            bound_version=state.version or None,
        )

    async def _create_schedule(
        self, caller: Caller, wanted: CreateTrigger, schedule: Schedule
    ) -> CreatedTrigger:
        settled = checked_schedule(schedule, self._clock.now())
        command = rules.CreateSchedule(name=wanted.name, workflow=wanted.workflow, schedule=settled)
        return await self._created(cause_of(caller), receipt(), command)

    async def _create_occasion(self, caller: Caller, wanted: CreateTrigger, on: Occasion) -> CreatedTrigger:
        if isinstance(on, Follows) and self._binding.followers_in(caller.org) >= EVENT_TRIGGERS:
            raise Rejected(
                "conflict", f"An org has {EVENT_TRIGGERS} triggers that follow events at the most."
            )
        on = await self._usable(caller.org, on)
        trigger_id = receipt()
        plan = await self._intake(caller.org, trigger_id, on)
        tokens = Tokens.new() if isinstance(on, Form | Chat) else None
        hashes = tokens.hashes() if tokens is not None else {}
        command = rules.CreateOccasion(name=wanted.name, workflow=wanted.workflow, on=on, plan=plan, **hashes)
        created = await self._created(cause_of(caller), trigger_id, command)
        under = "forms" if isinstance(on, Form) else "hooks"
        address = self._address(tokens, under) if tokens is not None else None
        return structs.replace(created, address=address)

    async def _created(
        self, cause: Cause, trigger_id: str, command: rules.CreateSchedule | rules.CreateOccasion
    ) -> CreatedTrigger:
        """It exists, and follows what its workflow has published."""
        await self._change(cause, trigger_id, command)
        await self._binding.bind(cause, command.workflow, trigger_id)
        state = await self._domain.load(TRIGGER, cause.org, trigger_id)
        return CreatedTrigger(id=trigger_id, address=None, secret=None, bound_version=state.version or None)

    async def _intake(self, org: str, trigger_id: str, on: Occasion) -> str:
        """The plan of the runs that look, where it polls."""
        return await plan_of(self._compiler, org, trigger_id, on) if isinstance(on, Poll) else ""

    async def _usable(self, org: str, on: Occasion, before: Occasion | None = None) -> Occasion:
        """The same, settled. Raises `Problem`, or `Rejected` where it names a workflow that the org does not have."""
        checked_occasion(on, self._language)
        if isinstance(on, Poll):
            was = before.schedule if isinstance(before, Poll) else None
            return structs.replace(on, schedule=checked_schedule(on.schedule, self._clock.now(), was))
        for workflow in on.workflows if isinstance(on, RunEnd) else ():
            if not (await self._domain.load(WORKFLOW, org, workflow)).exists:
                raise absent("workflow")
        return on

    def preview(self, wanted: PreviewSchedule) -> Coming:
        """When a schedule would fire."""
        after = wanted.after or self._clock.now()
        return Coming(fires=tuple(coming(wanted.schedule, after, wanted.count)))

    async def coming(self, org: str, trigger_id: str, count: int) -> Coming:
        """When a trigger will fire, as far as one can know today; never, while it is disabled or starts nothing."""
        state = await self._existing(org, trigger_id)
        is_kind(state, "schedule")
        assert state.schedule is not None  # noqa: S101  # That is its kind.
        fires = coming(state.schedule, self._clock.now(), count) if state.enabled and state.plan else []
        return Coming(fires=tuple(fires))

    async def change(self, caller: Caller, trigger_id: str, wanted: ChangeTrigger) -> ChangedTrigger:
        state = await self._existing(caller.org, trigger_id)
        cause = cause_of(caller)
        if sum(each is not None for each in (wanted.webhook, wanted.schedule, wanted.on)) != 1:
            raise Rejected("malformed", "One of `webhook`, `schedule` and `on` is to be named.")
        if wanted.on is not None:
            on = await self._usable(caller.org, wanted.on, state.on)
            plan = await self._intake(caller.org, trigger_id, on)
            await self._change(cause, trigger_id, rules.ChangeOccasion(name=wanted.name, on=on, plan=plan))
            return ChangedTrigger(id=trigger_id)
        if wanted.schedule is not None:
            settled = checked_schedule(wanted.schedule, self._clock.now(), state.schedule)
            await self._change(cause, trigger_id, rules.ChangeSchedule(name=wanted.name, schedule=settled))
            return ChangedTrigger(id=trigger_id)
        assert wanted.webhook is not None  # noqa: S101  # One of the three is named.
        is_kind(state, "webhook")
        webhook, secret = await self._settled(cause, trigger_id, wanted.webhook)
        await self._change(cause, trigger_id, rules.Change(name=wanted.name, webhook=webhook))
        return ChangedTrigger(id=trigger_id, secret=secret)

    async def enable(self, caller: Caller, trigger_id: str) -> None:
        await self._change(cause_of(caller), trigger_id, rules.Enable())

    async def disable(self, caller: Caller, trigger_id: str) -> None:
        await self._change(cause_of(caller), trigger_id, rules.Disable())

    async def delete(self, caller: Caller, trigger_id: str) -> None:
        await self._change(cause_of(caller), trigger_id, rules.Delete())

    async def rotate_token(self, caller: Caller, trigger_id: str) -> Address:
        """New addresses; the old ones are gone at once."""
        tokens = Tokens.new()
        changed = await self._change(cause_of(caller), trigger_id, rules.RotateToken(**tokens.hashes()))
        return self._address(tokens, "forms" if changed.state.kind == "form" else "hooks")

    async def rotate_secret(
        self, caller: Caller, trigger_id: str, value: SecretValue | None, keep_previous_s: float
    ) -> RotatedSecret:
        state = await self._existing(caller.org, trigger_id)
        secret_id = secret_of(state.webhook)
        if secret_id is None or state.kind != "webhook":
            raise Rejected("conflict", "The trigger asks for no secret.")
        text = None
        if value is None:
            value, text = generate(state.webhook.authentication)
        rotated = await self._secrets.rotate(caller, secret_id, value, keep_previous_s)
        return RotatedSecret(secret=secret_id, text=text, previous_until=rotated.previous_until)

    async def state(self, org: str, trigger_id: str) -> TriggerState:
        return await self._existing(org, trigger_id)

    async def _settled(
        self, cause: Cause, trigger_id: str, webhook: Webhook
    ) -> tuple[Webhook, NewSecret | None]:
        """The settings with everything they name really there."""
        checked(webhook, self._language)
        for pointer in webhook.sensitive:
            try:
                parse_pointer(pointer)
            except BadPointer as error:
                raise Rejected("malformed", f"{pointer!r} is not a JSON pointer: {error}.") from None
        secret_id = secret_of(webhook)
        if secret_id is None:
            return webhook, None
        if secret_id != GENERATE:
            await self._known(cause.org, secret_id)
            return webhook, None
        value, text = generate(webhook.authentication)
        made = receipt()
        await self._secrets.put(cause, made, f"webhook {trigger_id} {made[-12:]}", value, ())
        return with_secret(webhook, made), NewSecret(id=made, text=text)

    async def _known(self, org: str, secret_id: str) -> None:
        try:
            await self._secrets.describe(org, secret_id)
        except NoSuchSecret:
            raise Rejected("secret.missing", "There is no such secret.") from None

    async def _existing(self, org: str, trigger_id: str) -> TriggerState:
        state = await self._domain.load(TRIGGER, org, trigger_id)
        if not state.exists:
            raise absent("trigger")
        return state

    async def _change(self, cause: Cause, trigger_id: str, command: rules.Command) -> Changed[TriggerState]:
        changed = await self._domain.change(
            TRIGGER, trigger_id, lambda state: rules.decide(state, command), cause
        )
        self._places.wrote(cause.org, DOMAIN, changed.place)
        # Also when nothing changed: whoever asked before may have died before it could tell.
        await self._looks.changed(cause.org, trigger_id, changed.state)
        return changed

    def _address(self, tokens: Tokens, under: str = "hooks") -> Address:
        base = f"{self._public_url}/{under}"
        return Address(url=f"{base}/{tokens.token}", test_url=f"{base}/{tokens.test}")
