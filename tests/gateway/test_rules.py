"""What may happen to workflows, triggers, orgs, secrets and keys: happened, refused, seen before."""

from collections.abc import Callable, Sequence
from functools import reduce
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import Raw

from contracts.gates import ALL_RUNS, OrgLimit
from contracts.payloads import Inline
from contracts.schedules import Cron, Schedule
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
    Webhook,
)
from contracts.workflows import (
    KeyIssued,
    KeyRevoked,
    OrgLimitsSet,
    OrgVarsSet,
    SecretDeleted,
    SecretStored,
    VersionDrafted,
    VersionPublished,
    WorkflowCreated,
    WorkflowDeleted,
    WorkflowRenamed,
)
from gateway.domain import Aggregate
from gateway.keys import rules as keys
from gateway.keys.rules import KEY
from gateway.orgs.rules import ORG, set_limits, set_vars
from gateway.rejected import Rejected
from gateway.secrets import rules as secrets
from gateway.secrets.rules import SECRET
from gateway.triggers import rules as triggers
from gateway.triggers.rules import TRIGGER
from gateway.workflows import rules as workflows
from gateway.workflows.rules import WORKFLOW

PLAN, OTHER = "a" * 64, "b" * 64
DEFINITION = Inline(value=Raw(b'{"nodes":[]}'))


class Story:
    """Given these events, when this is asked, then this follows."""

    def __init__(self, aggregate: Aggregate[Any, Any], decide: Callable[..., Sequence[Any]]) -> None:
        self._aggregate, self._decide = aggregate, decide

    def given(self, *events: Any) -> "Story":
        told = Story(self._aggregate, self._decide)
        told._state = reduce(self._aggregate.evolve, events, self._aggregate.new)
        return told

    def when(self, *asked: Any) -> list[Any]:
        state = getattr(self, "_state", self._aggregate.new)
        return list(self._decide(state, *asked))

    def refused(self, *asked: Any) -> str:
        with pytest.raises(Rejected) as raised:
            self.when(*asked)
        return raised.value.code

    _state: Any


# --- Workflows --------------------------------------------------------------------------------

workflow = Story(WORKFLOW, workflows.decide)
created = WorkflowCreated(name="orders")
drafted = VersionDrafted(version=1, definition=DEFINITION)
published = VersionPublished(version=1, plan=PLAN)


def test_a_workflow_is_created_with_its_first_version_in_one_commit() -> None:
    assert workflow.when(workflows.Create(name="orders", definition=DEFINITION)) == [created, drafted]
    assert workflow.when(workflows.Create(name="orders")) == [created]


def test_creating_it_again_changes_nothing() -> None:
    assert workflow.given(created).when(workflows.Create(name="orders")) == []
    assert workflow.given(created, WorkflowDeleted()).when(workflows.Create(name="orders")) == []


def test_versions_are_numbered_without_a_gap() -> None:
    second = workflow.given(created, drafted).when(workflows.Draft(definition=DEFINITION))
    assert second == [VersionDrafted(version=2, definition=DEFINITION)]


def test_a_version_that_compiled_is_published_once() -> None:
    publish = workflows.Publish(version=1, plan=PLAN)
    assert workflow.given(created, drafted).when(publish) == [published]
    assert workflow.given(created, drafted, published).when(publish) == []


def test_the_same_version_is_published_again_when_its_plan_is_another() -> None:
    again = workflow.given(created, drafted, published).when(workflows.Publish(version=1, plan=OTHER))
    assert again == [VersionPublished(version=1, plan=OTHER)]


def test_an_older_version_may_be_published_again() -> None:
    second = (VersionDrafted(version=2, definition=DEFINITION), VersionPublished(version=2, plan=OTHER))
    assert workflow.given(created, drafted, published, *second).when(
        workflows.Publish(version=1, plan=PLAN)
    ) == [published]


@pytest.mark.parametrize("version", [-1, 0, 2, 10**12])
def test_a_version_that_is_not_there_is_not_published(version: int) -> None:
    story = workflow.given(created, drafted)
    assert story.refused(workflows.Publish(version=version, plan=PLAN)) == "not_found"


def test_a_workflow_is_renamed_unless_it_has_the_name_already() -> None:
    assert workflow.given(created).when(workflows.Rename(name="sales")) == [WorkflowRenamed(name="sales")]
    assert workflow.given(created).when(workflows.Rename(name="orders")) == []


@pytest.mark.parametrize(
    "command",
    [
        workflows.Rename(name="x"),
        workflows.Draft(definition=DEFINITION),
        workflows.Publish(version=1, plan=PLAN),
        workflows.Delete(),
    ],
)
def test_nothing_happens_to_a_workflow_that_is_not_there_or_gone(command: workflows.Command) -> None:
    assert workflow.refused(command) == "not_found"
    assert workflow.given(created, drafted, WorkflowDeleted()).refused(command) == "not_found"


# --- Triggers ---------------------------------------------------------------------------------

trigger = Story(TRIGGER, triggers.decide)
hook = TriggerCreated(name="push", workflow="w1", webhook=Webhook(), token="1" * 64, test_token="2" * 64)
bound = TriggerBound(version=1, plan=PLAN)


def test_a_trigger_is_created_once() -> None:
    command = triggers.Create(
        name="push", workflow="w1", webhook=Webhook(), token="1" * 64, test_token="2" * 64
    )
    assert trigger.when(command) == [hook]
    assert trigger.given(hook).when(command) == []
    assert trigger.given(hook, TriggerDeleted()).when(command) == []


NIGHTLY = Schedule(when=Cron(expression="0 3 * * *"))
HOURLY = Schedule(when=Cron(expression="@hourly"))
nightly = ScheduleCreated(name="nightly", workflow="w1", schedule=NIGHTLY)


def test_a_schedule_is_created_once_and_stays_one() -> None:
    command = triggers.CreateSchedule(name="nightly", workflow="w1", schedule=NIGHTLY)
    assert trigger.when(command) == [nightly]
    assert trigger.given(nightly).when(command) == []
    assert trigger.given(nightly, TriggerDeleted()).when(command) == []
    changed = triggers.ChangeSchedule(name="nightly", schedule=HOURLY)
    assert trigger.given(nightly).when(changed) == [ScheduleChanged(name="nightly", schedule=HOURLY)]
    assert trigger.given(nightly, ScheduleChanged(name="nightly", schedule=HOURLY)).when(changed) == []
    assert trigger.given(hook).refused(changed) == "conflict"
    assert trigger.given(nightly).refused(triggers.Change(name="x", webhook=Webhook())) == "conflict"
    rotate = triggers.RotateToken(token="3" * 64, test_token="4" * 64)
    assert trigger.given(nightly).refused(rotate) == "conflict"
    assert trigger.given(nightly).when(triggers.Disable()) == [TriggerDisabled()]


def test_a_trigger_follows_the_plan_it_is_bound_to() -> None:
    assert trigger.given(hook).when(triggers.Bind(version=1, plan=PLAN)) == [bound]
    assert trigger.given(hook, bound).when(triggers.Bind(version=1, plan=PLAN)) == []
    assert trigger.given(hook, bound).when(triggers.Bind(version=2, plan=OTHER)) == [
        TriggerBound(version=2, plan=OTHER)
    ]


def test_enabling_and_disabling_say_something_only_when_it_changes() -> None:
    assert trigger.given(hook).when(triggers.Enable()) == []
    assert trigger.given(hook).when(triggers.Disable()) == [TriggerDisabled()]
    assert trigger.given(hook, TriggerDisabled()).when(triggers.Disable()) == []
    assert trigger.given(hook, TriggerDisabled()).when(triggers.Enable()) == [TriggerEnabled()]


def test_settings_are_replaced_whole() -> None:
    respond = Webhook(mode="respond")
    assert trigger.given(hook).when(triggers.Change(name="push", webhook=respond)) == [
        TriggerChanged(name="push", webhook=respond)
    ]
    assert trigger.given(hook).when(triggers.Change(name="push", webhook=Webhook())) == []


def test_a_token_is_rotated() -> None:
    assert trigger.given(hook).when(triggers.RotateToken(token="3" * 64, test_token="4" * 64)) == [
        TokenRotated(token="3" * 64, test_token="4" * 64)
    ]


@pytest.mark.parametrize(
    "command",
    [
        triggers.Change(name="x", webhook=Webhook()),
        triggers.RotateToken(token="3" * 64, test_token="4" * 64),
        triggers.Bind(version=1, plan=PLAN),
        triggers.Enable(),
        triggers.Disable(),
        triggers.Delete(),
    ],
)
def test_nothing_happens_to_a_trigger_that_is_not_there_or_gone(command: triggers.Command) -> None:
    assert trigger.refused(command) == "not_found"
    assert trigger.given(hook, TriggerDeleted()).refused(command) == "not_found"


# --- Orgs, secrets, keys ----------------------------------------------------------------------


def test_variables_are_replaced_whole_and_only_when_they_change() -> None:
    story = Story(ORG, set_vars)
    assert story.when({"region": "eu"}) == [OrgVarsSet(vars={"region": "eu"})]
    assert story.given(OrgVarsSet(vars={"region": "eu"})).when({"region": "eu"}) == []
    assert story.given(OrgVarsSet(vars={"region": "eu"})).when({}) == [OrgVarsSet(vars={})]


def test_limits_are_replaced_whole_and_only_when_they_change_and_each_says_something() -> None:
    story, mail = Story(ORG, set_limits), {"mail": OrgLimit(at_once=5)}
    assert story.when(mail) == [OrgLimitsSet(limits=mail)]
    assert story.given(OrgLimitsSet(limits=mail)).when(mail) == []
    assert story.given(OrgLimitsSet(limits=mail)).when({}) == [OrgLimitsSet(limits={})]
    assert story.refused({"mail": OrgLimit()}) == "malformed"
    assert story.refused({ALL_RUNS: OrgLimit(queue=3)}) == "malformed"
    assert story.when({ALL_RUNS: OrgLimit(at_once=3)}) == [
        OrgLimitsSet(limits={ALL_RUNS: OrgLimit(at_once=3)})
    ]


@pytest.mark.parametrize("name", ["", "a b", "a-b", "1a", "größe", "a" * 5 + "."])
def test_a_variable_has_a_name_that_expressions_can_say(name: str) -> None:
    assert Story(ORG, set_vars).refused({name: 1}) == "malformed"


def test_an_org_has_a_bounded_number_of_variables() -> None:
    story = Story(ORG, set_vars)
    assert len(story.when({f"v{n}": n for n in range(200)})) == 1
    assert story.refused({f"v{n}": n for n in range(201)}) == "malformed"


def test_the_log_learns_that_a_secret_has_a_value_each_time_it_gets_one() -> None:
    fact = SecretStored(name="github", kind="hmac", allowed_hosts=("api.github.com",))
    assert secrets.stored("github", "hmac", ["api.github.com"]) == [fact]
    story = Story(SECRET, secrets.delete)
    assert story.given(fact).when() == [SecretDeleted()]
    assert story.given(fact, SecretDeleted()).refused() == "not_found"


def test_nobody_gives_a_scope_that_they_do_not_have() -> None:
    story = Story(KEY, keys.issue)
    held = {"runs:read", "keys:write"}
    assert story.when("ci", {"runs:read"}, held) == [KeyIssued(name="ci", scopes=("runs:read",))]
    assert story.refused("ci", {"runs:read", "secrets:write"}, held) == "forbidden"
    assert story.refused("ci", {"everything"}, held) == "malformed"


def test_a_key_is_revoked_once() -> None:
    issued = KeyIssued(name="ci", scopes=("runs:read",))
    story = Story(KEY, keys.revoke)
    assert story.given(issued).when() == [KeyRevoked()]
    assert story.given(issued, KeyRevoked()).when() == []
    assert story.refused() == "not_found"


# --- Laws -------------------------------------------------------------------------------------

EVENTS: list[tuple[Aggregate[Any, Any], list[Any]]] = [
    (WORKFLOW, [created, WorkflowRenamed(name="x"), drafted, published, WorkflowDeleted()]),
    (
        TRIGGER,
        [
            hook,
            TriggerChanged(name="x", webhook=Webhook()),
            TokenRotated(token="3" * 64, test_token="4" * 64),
            nightly,
            ScheduleChanged(name="x", schedule=NIGHTLY),
            bound,
            TriggerEnabled(),
            TriggerDisabled(),
            TriggerDeleted(),
        ],
    ),
    (ORG, [OrgVarsSet(vars={"a": 1}), OrgLimitsSet(limits={"mail": OrgLimit(at_once=1)})]),
    (SECRET, [SecretStored(name="s", kind="text"), SecretDeleted()]),
    (KEY, [KeyIssued(name="k", scopes=()), KeyRevoked()]),
]


@pytest.mark.parametrize(("aggregate", "kinds"), EVENTS, ids=[each.name for each, _ in EVENTS])
@given(data=st.data())
def test_every_event_is_folded_in_every_state(
    aggregate: Aggregate[Any, Any], kinds: list[Any], data: st.DataObject
) -> None:
    events = data.draw(st.lists(st.sampled_from(kinds), max_size=12))
    state = reduce(aggregate.evolve, events, aggregate.new)
    assert isinstance(state, type(aggregate.new))
