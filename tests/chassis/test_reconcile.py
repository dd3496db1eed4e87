"""Streams, consumers and buckets become what is declared, and what cannot change is refused by name."""

from collections.abc import AsyncIterator
from typing import Any

import msgspec
import pytest

from chassis import reconcile as module
from chassis.jetstream.connection import Connection, connect
from chassis.jetstream.wire import EPOCH
from chassis.reconcile import Incompatible, bucket_settings, drift, reconcile, within_quota
from contracts.streams import BUCKETS, OWNERS, STREAMS, pool_consumer
from deploy.testing.embedded import NatsServer


@pytest.fixture
async def connection(nats_server: NatsServer) -> AsyncIterator[Connection]:
    async with connect(nats_server.url, name="reconciler") as opened:
        yield opened


async def config(connection: Connection, stream: str) -> dict[str, Any]:
    found: dict[str, Any] = (await connection.api(f"STREAM.INFO.{stream}"))["config"]
    return found


async def change(connection: Connection, stream: str, **fields: object) -> None:
    """What an operator, or another release, would have done."""
    answer = await connection.api(f"STREAM.UPDATE.{stream}", {**await config(connection, stream), **fields})
    assert "error" not in answer


async def test_everything_is_made_once_and_left_alone_afterwards(connection: Connection) -> None:
    assert len(await drift(connection)) == len(STREAMS) + len(BUCKETS)
    made = await reconcile(connection, pools=("default", "gpu"), orgs=("org_a",))
    assert len(made) == len(STREAMS) + len(BUCKETS) + len(OWNERS) + 3
    assert all(line.endswith(": made") for line in made)
    assert await reconcile(connection, pools=("default", "gpu"), orgs=("org_a",)) == []
    assert await drift(connection) == []
    for stream in STREAMS:
        assert (await config(connection, stream.name))["metadata"][EPOCH] == "1"
    consumer = await connection.api("CONSUMER.INFO.RUNS.ext_org_a")
    assert consumer["config"]["filter_subject"] == "run.org_a.>"
    owner = await connection.api("CONSUMER.INFO.INBOX.orch-3")
    assert owner["config"]["priority_policy"] == "pinned_client"


async def test_what_drifted_is_brought_back_and_all_else_is_kept(connection: Connection) -> None:
    await reconcile(connection)
    metadata = (await config(connection, "RUNS"))["metadata"] | {EPOCH: "4", "operator": "was here"}
    await change(
        connection, "RUNS", max_msg_size=1_000_000, duplicate_window=60_000_000_000, metadata=metadata
    )
    assert await drift(connection) == ["RUNS: duplicate_window is 60000000000, declared is 120000000000"]
    assert await reconcile(connection) == ["RUNS: duplicate_window brought up to date"]
    stored = await config(connection, "RUNS")
    assert stored["duplicate_window"] == 120_000_000_000
    assert stored["max_msg_size"] == 1_000_000  # Not declared, so not ours to change.
    assert (stored["metadata"][EPOCH], stored["metadata"]["operator"]) == ("4", "was here")
    assert await reconcile(connection) == []


async def test_an_epoch_that_is_missing_is_the_first(connection: Connection) -> None:
    await reconcile(connection)
    await change(connection, "DOMAIN", metadata={"mine": "1"})
    assert await reconcile(connection) == [f"DOMAIN: {EPOCH} brought up to date"]
    assert (await config(connection, "DOMAIN"))["metadata"][EPOCH] == "1"


async def test_a_consumer_that_drifted_is_brought_back(connection: Connection) -> None:
    await reconcile(connection)
    declared = pool_consumer("default")
    changed = {**declared.settings(), "ack_wait": 9_000_000_000}
    request = {"stream_name": "TASKS", "action": "update", "config": changed}
    subject = f"CONSUMER.CREATE.TASKS.{declared.name}.{declared.filter}"
    assert "error" not in await connection.api(subject, request)
    assert await reconcile(connection) == ["TASKS/exec-default: ack_wait brought up to date"]
    assert await reconcile(connection) == []


@pytest.mark.parametrize(
    ("stream", "field", "value"),
    [
        ("RUNS", "storage", "memory"),
        ("TASKS", "retention", "limits"),
        ("LOGS", "persist_mode", "default"),
        ("RUNS", "subjects", ["run.*.*", "other.>"]),
    ],
)
async def test_what_cannot_change_is_refused_by_its_name(
    connection: Connection, stream: str, field: str, value: Any
) -> None:
    wanted = next(each.settings() for each in STREAMS if each.name == stream)
    if field == "retention":
        wanted |= {"discard_new_per_subject": False, "max_msgs_per_subject": -1}
    made = await connection.api(f"STREAM.CREATE.{stream}", {**wanted, field: value})
    assert "error" not in made
    with pytest.raises(Incompatible) as refused:
        await reconcile(connection)
    assert (refused.value.where, refused.value.field) == (stream, field)
    assert refused.value.stored == made["config"].get(field)
    assert refused.value.wanted == next(each.settings() for each in STREAMS if each.name == stream).get(field)
    assert stream in str(refused.value)
    assert field in str(refused.value)
    assert await config(connection, stream) | {"metadata": {}} == made["config"] | {"metadata": {}}


async def test_a_lock_that_was_set_is_never_taken_off(
    connection: Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    await reconcile(connection)
    runs = next(stream for stream in STREAMS if stream.name == "RUNS")
    open_ = msgspec.structs.replace(runs, config=runs.config | {"deny_delete": False})
    monkeypatch.setattr(module, "STREAMS", (open_,))
    with pytest.raises(Incompatible, match="RUNS: deny_delete is True and this release wants False"):
        await reconcile(connection)


async def test_what_the_server_refuses_is_told_in_its_words(
    connection: Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    await reconcile(connection)
    runs = next(stream for stream in STREAMS if stream.name == "RUNS")
    odd = msgspec.structs.replace(runs, config=runs.config | {"mirror": {"name": "DOMAIN"}})
    monkeypatch.setattr(module, "STREAMS", (odd,))
    with pytest.raises(Incompatible, match=r"RUNS: mirror is None and this release wants .*mirror"):
        await reconcile(connection)


async def test_a_consumer_of_another_kind_is_refused(connection: Connection) -> None:
    await reconcile(connection, pools=())
    consumer = pool_consumer("default")
    request = {
        "stream_name": "TASKS",
        "action": "create",
        "config": consumer.settings() | {"ack_policy": "explicit", "replay_policy": "original"},
    }
    made = await connection.api(f"CONSUMER.CREATE.TASKS.{consumer.name}.{consumer.filter}", request)
    assert "error" not in made
    with pytest.raises(Incompatible, match="TASKS/exec-default: replay_policy is 'original'"):
        await reconcile(connection)


async def test_buckets_are_what_every_client_expects(connection: Connection) -> None:
    await reconcile(connection)
    jetstream = connection.client.jetstream()
    values = await jetstream.key_value("NODES")
    await values.put("echo.1", b"spec")
    assert (await values.get("echo.1")).value == b"spec"
    objects = await jetstream.object_store("BLOBS")
    await objects.put("name", b"bytes" * 100_000)
    assert (await objects.get("name")).data == b"bytes" * 100_000


def test_a_small_quota_shrinks_what_is_reserved_and_nothing_else() -> None:
    for stream in STREAMS:
        settings = stream.settings()
        small = within_quota(settings, 80_000_000)
        declared = settings.get("max_bytes", -1)
        assert small.get("max_bytes", -1) == (min(declared, 10_000_000) if declared > 0 else declared)
        assert {**small, "max_bytes": 0} == {**settings, "max_bytes": 0}
        assert within_quota(settings, 0) == settings
    bounded = [stream for stream in STREAMS if stream.config.get("max_bytes", -1) > 0]
    reserved = sum(within_quota(stream.settings(), 80_000_000)["max_bytes"] for stream in bounded)
    assert reserved <= 40_000_000
    assert all(bucket_settings(bucket, 1)["max_bytes"] == -1 for bucket in BUCKETS)
