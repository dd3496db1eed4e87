"""Secrets are opened for one attempt, only where they are marked, and shown nowhere."""

from typing import Any

import pytest

from chassis.egress import Credential
from chassis.sealing import Opener, Place, Sealer, Unsealable, new_data_key, new_salt
from chassis.secret import BearerSecret, Secret
from chassis.vault import VaultAway
from contracts.codec import decode_json, encode
from contracts.messages import Outcome, StepBroken, StepDone, Task
from contracts.payloads import Inline
from executor.node import Context, SecretReference
from executor.opening import named
from tests.executor.fakes import ORG, RUN, World, simulated, task, until
from tests.executor.nodes import Anything, Scripted

_CANARY = "canary-5f1c"


async def _opens(context: Context) -> Any:
    credential: Credential = await context.open(SecretReference(id="s1"))
    assert isinstance(credential.value, BearerSecret)
    assert credential.value.token.reveal_text() == _CANARY
    return list(credential.allowed_hosts)


def attempted(world: World, wanted: Task) -> Outcome:
    async def main() -> Outcome:
        async with world.executor():
            world.source.put(wanted)
            await until(lambda: world.outcomes, 200)
        return world.outcomes[0]

    outcome = simulated(main())
    assert _CANARY.encode() not in encode(outcome)
    return outcome


def world_with_secret(*nodes: Any) -> World:
    world = World(*nodes)
    world.safe.keep("s1", BearerSecret(token=Secret(_CANARY)), "api.example.org")
    return world


def test_a_secret_in_a_marked_field_is_opened_with_its_allowed_hosts() -> None:
    world = world_with_secret(Scripted(_opens))
    config = {"auth": {"$secret": "s1"}}

    outcome = attempted(world, task(config, node_type="test", secrets=("/auth",)))

    assert isinstance(outcome, StepDone)
    assert isinstance(outcome.output, Inline)
    assert decode_json(outcome.output.value) == ["api.example.org"]


@pytest.mark.parametrize(
    ("config", "pointers"),
    [
        ({"other": {"$secret": "s1"}}, ("/auth",)),
        ({"auth": {"$secret": "s2"}}, ("/auth",)),
        ({"auth": {"$secret": "s1"}}, ()),
    ],
)
def test_a_secret_that_no_marked_field_names_is_not_opened(config: Any, pointers: tuple[str, ...]) -> None:
    outcome = attempted(world_with_secret(Scripted(_opens)), task(config, node_type="test", secrets=pointers))

    assert isinstance(outcome, StepBroken)
    assert outcome.error.code == "secret.missing"


@pytest.mark.parametrize("failure", [None, Unsealable("not authentic")])
def test_a_secret_that_is_gone_or_does_not_open_fails_the_step(failure: Exception | None) -> None:
    world = World(Scripted(_opens))
    world.safe.failing = [failure] if failure else []

    outcome = attempted(world, task({"auth": {"$secret": "s1"}}, node_type="test", secrets=("/auth",)))

    assert isinstance(outcome, StepBroken)
    assert (outcome.error.code, outcome.error.retryable) == ("secret.missing", False)


def test_the_vault_being_away_delays_the_attempt_and_no_more() -> None:
    world = world_with_secret(Scripted(_opens))
    world.safe.failing = [VaultAway() for _ in range(5)]

    outcome = attempted(world, task({"auth": {"$secret": "s1"}}, node_type="test", secrets=("/auth",)))

    assert isinstance(outcome, StepDone)


def sealed(value: Any, world: World) -> Any:
    """A value as ingress seals it for the run."""
    key, salt, place = new_data_key(ORG, 1), new_salt(), Place(org=ORG, object=RUN, field="value")
    world.safe.openers["salt-1"] = Opener({1: key}, salt, "run.value", place)
    return {"$sealed": Sealer(key, salt, "run.value", place).seal(encode(value))}


class Says(Scripted):
    """Tells what its configuration said, without repeating it."""

    async def run(self, config: Anything, context: Context) -> Any:
        assert config.say in (_CANARY, '{"$sealed":"x"}')
        return await super().run(config, context)


async def _nothing(_: Context) -> str:
    return "done"


def test_a_sealed_value_is_open_while_the_node_runs_and_only_then() -> None:
    world = World(Says(_nothing))
    config = {"say": sealed(_CANARY, world)}

    outcome = attempted(world, task(config, node_type="test", key_id="salt-1"))

    assert isinstance(outcome, StepDone)


def test_echo_hands_sealed_values_on_as_they_are() -> None:
    world = World()
    value = sealed(_CANARY, world)

    outcome = attempted(world, task({"value": [value]}, key_id="salt-1"))

    assert isinstance(outcome, StepDone)
    assert isinstance(outcome.output, Inline)
    assert decode_json(outcome.output.value) == [value]


@pytest.mark.parametrize("key_id", ["salt-1", "shredded"])
def test_a_sealed_value_that_does_not_open_fails_the_step(key_id: str) -> None:
    world = World(Says(_nothing))
    sealed("something else", world)

    outcome = attempted(world, task({"say": {"$sealed": "v1|1|x|y"}}, node_type="test", key_id=key_id))

    assert isinstance(outcome, StepBroken)
    assert outcome.error.code == "secret.missing"


def test_in_a_run_that_seals_nothing_a_strangers_sealed_value_is_only_data() -> None:
    outcome = attempted(World(), task({"value": {"$sealed": "x"}}))

    assert isinstance(outcome, StepDone)


def test_what_was_sealed_is_not_shown_when_it_does_not_fit() -> None:
    world = World()
    config = {"url": "http://x", "method": sealed(_CANARY, world)}

    outcome = attempted(world, task(config, node_type="http.request", key_id="salt-1"))

    assert isinstance(outcome, StepBroken)
    assert (outcome.error.code, outcome.error.field) == ("workflow.bad_config", "/method")


@pytest.mark.parametrize(
    ("pointers", "found"),
    [
        ((), set()),
        (("/a",), {"1"}),
        (("/b/*/c",), {"2", "3"}),
        (("/b/1/c",), {"3"}),
        (("/b/7/c", "/b/x/c", "/a/b/c", "/nothing"), set()),
        (("/d/x~1y",), {"4"}),
        (("/d/*",), {"4"}),
        (("/e",), set()),
    ],
)
def test_pointers_find_the_secrets_that_fields_name(pointers: tuple[str, ...], found: set[str]) -> None:
    config = {
        "a": {"$secret": "1"},
        "b": [{"c": {"$secret": "2"}}, {"c": {"$secret": "3"}}],
        "d": {"x/y": {"$secret": "4"}},
        "e": {"$secret": 5},
    }

    assert named(config, pointers) == found
