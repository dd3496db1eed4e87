"""Makes streams, consumers and buckets what this release declares, at every start.

Rule: what is stored wins over what is declared. A setting that cannot change on a stream that exists is refused with
its name, the stored value and the wanted one; nothing is ever deleted to make a declaration fit.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final, Protocol

import structlog

from chassis.jetstream.wire import EPOCH
from chassis.ports import Away
from contracts.streams import BUCKETS, OWNERS, STREAMS, Bucket, Consumer, pool_consumer
from contracts.subjects import OWNER_GROUP

_FOREVER: Final = frozenset({"storage", "retention", "persist_mode", "discard_new_per_subject"})
"""JetStream refuses to change these, or would change what messages that lie there mean."""
_ONE_WAY: Final = frozenset({"deny_delete", "deny_purge", "sealed", "allow_msg_schedules", "allow_msg_ttl"})
"""These can be switched on later, never off."""
_CONSUMER_FOREVER: Final = frozenset({"ack_policy", "deliver_policy", "replay_policy", "priority_policy"})
_BESIDE: Final = frozenset({"metadata", "durable_name", "name", "num_replicas"})
"""Of a consumer, or of our own making: never compared as they are."""

_RESERVED_SHARE: Final = 8
"""No stream with a bound of its own reserves more than this part of the quota; half is left for the histories."""

log = structlog.get_logger()


class Incompatible(Exception):
    """What is stored and what is declared do not fit together, and no update bridges it."""

    def __init__(self, where: str, field: str, stored: object, wanted: object, reason: str = "") -> None:
        super().__init__(
            f"{where}: {field} is {stored!r} and this release wants {wanted!r}"
            f"{': ' + reason if reason else ', which cannot be changed on what exists'}."
        )
        self.where = where
        self.field = field
        self.stored = stored
        self.wanted = wanted


class Api(Protocol):
    """Asks JetStream's API; errors that are final stand in the answer as `error`."""

    async def api(self, subject: str, body: Any = None) -> dict[str, Any]: ...


async def reconcile(
    api: Api,
    *,
    replicas: int = 1,
    pools: Sequence[str] = ("default",),
    orgs: Sequence[str] = (),
    quota: int = 0,
) -> list[str]:
    """Bring everything to what is declared; what was done, one line each. Safe to run at every start.

    `pools`: whose consumers are wanted already; an executor of another pool makes its own. `orgs`: whose histories an
    external consumer may read. `quota`: the bytes that the log may use (`Disk.quota` knows), 0 for plenty.
    """
    done: list[str] = []
    for stream in STREAMS:
        done += await _stream(api, stream.name, within_quota(stream.settings(replicas), quota))
    for bucket in BUCKETS:
        settings = bucket_settings(bucket, replicas)
        done += await _stream(api, settings["name"], settings)
    for consumer in (*OWNERS, *map(pool_consumer, pools), *map(external_consumer, orgs)):
        done += await _consumer(api, consumer)
    for line in done:
        log.info("reconciled", what=line)
    return done


async def drift(api: Api, *, replicas: int = 1, quota: int = 0) -> list[str]:
    """What differs from the declaration, for people; nothing is changed."""
    wanted = [within_quota(stream.settings(replicas), quota) for stream in STREAMS]
    wanted += [bucket_settings(bucket, replicas) for bucket in BUCKETS]
    found: list[str] = []
    for settings in wanted:
        answer = await api.api(f"STREAM.INFO.{settings['name']}")
        if "error" in answer:
            found.append(f"{settings['name']}: is not there")
            continue
        stored = answer["config"]
        found += [
            f"{settings['name']}: {field} is {stored.get(field)!r}, declared is {settings[field]!r}"
            for field in _differences(stored, settings)
        ]
    return found


async def unpin_all(api: Api, owners: Iterable[Consumer] = OWNERS) -> None:
    """Free every partition: at a start nobody who was pinned before lives. Harmless while somebody does."""
    for owner in owners:
        await api.api(f"CONSUMER.UNPIN.{owner.stream}.{owner.name}", {"group": OWNER_GROUP})


def within_quota(settings: dict[str, Any], quota: int) -> dict[str, Any]:
    """JetStream reserves what a stream may grow to, and makes no stream whose reserve is not there."""
    bound = settings.get("max_bytes", -1)
    return settings | {"max_bytes": min(bound, quota // _RESERVED_SHARE)} if quota and bound > 0 else settings


def external_consumer(org: str) -> Consumer:
    """The durable through which programs outside read one org's runs. Made before, so that they need no right to make one."""
    return Consumer(
        stream="RUNS",
        name=external_name(org),
        filter=f"run.{org}.>",
        config={"ack_wait": 30_000_000_000, "max_ack_pending": 1_000, "max_waiting": 16},
    )


def external_name(org: str) -> str:
    return f"ext_{org}"


def bucket_settings(bucket: Bucket, replicas: int) -> dict[str, Any]:
    """The stream behind a bucket, as every NATS client expects it (ADR-8, ADR-20)."""
    shared = {
        "storage": "file",
        "num_replicas": replicas,
        "discard": "new",
        "max_bytes": bucket.bytes,
        "allow_rollup_hdrs": True,
        "allow_direct": True,
        "description": bucket.what,
    }
    if bucket.kind == "values":
        return shared | {
            "name": f"KV_{bucket.name}",
            "subjects": [f"$KV.{bucket.name}.>"],
            "max_msgs_per_subject": 1,
            "deny_delete": True,
        }
    return shared | {
        "name": f"OBJ_{bucket.name}",
        "subjects": [f"$O.{bucket.name}.C.>", f"$O.{bucket.name}.M.>"],
    }


async def _stream(api: Api, name: str, wanted: dict[str, Any]) -> list[str]:
    answer = await api.api(f"STREAM.INFO.{name}")
    if "error" in answer:
        first = {**wanted, "metadata": {EPOCH: "1"}}
        _no_error(name, await api.api(f"STREAM.CREATE.{name}", first), wanted)
        return [f"{name}: made"]
    stored: dict[str, Any] = answer["config"]
    metadata = dict(stored.get("metadata") or {})
    different = _differences(stored, wanted)
    for field in different:
        _refuse_forever(name, field, stored.get(field), wanted[field])
    if EPOCH in metadata and not different:
        return []
    # Read, modify, write: an update replaces the whole configuration.
    update = {**stored, **wanted, "metadata": {EPOCH: "1", **metadata}}
    _no_error(name, await api.api(f"STREAM.UPDATE.{name}", update), wanted, stored, different)
    return [f"{name}: {', '.join(different) or EPOCH} brought up to date"]


async def _consumer(api: Api, consumer: Consumer) -> list[str]:
    where, wanted = f"{consumer.stream}/{consumer.name}", consumer.settings()
    create = f"CONSUMER.CREATE.{consumer.stream}.{consumer.name}.{consumer.filter}"
    answer = await api.api(f"CONSUMER.INFO.{consumer.stream}.{consumer.name}")
    if "error" in answer:
        request = {"stream_name": consumer.stream, "action": "create", "config": wanted}
        _no_error(where, await api.api(create, request), wanted)
        return [f"{where}: made"]
    stored: dict[str, Any] = answer["config"]
    different = [field for field in _differences(stored, wanted) if field not in _BESIDE]
    if not different:
        return []
    for field in different:
        if field in _CONSUMER_FOREVER:
            raise Incompatible(where, field, stored.get(field), wanted[field])
    request = {"stream_name": consumer.stream, "action": "update", "config": {**stored, **wanted}}
    _no_error(where, await api.api(create, request), wanted, stored, different)
    return [f"{where}: {', '.join(different)} brought up to date"]


def _differences(stored: Mapping[str, Any], wanted: Mapping[str, Any]) -> list[str]:
    """The declared fields whose stored value is another. JetStream leaves out what has its default."""
    return [field for field, value in wanted.items() if not _same(stored.get(field), value)]


def _same(stored: Any, wanted: Any) -> bool:
    if isinstance(wanted, Mapping):
        return isinstance(stored, Mapping) and all(
            _same(stored.get(key), each) for key, each in wanted.items()
        )
    if isinstance(wanted, list):
        return sorted(map(str, stored or ())) == sorted(map(str, wanted))
    return bool(stored == wanted) or (not stored and (not wanted or wanted == -1))


def _refuse_forever(name: str, field: str, stored: Any, wanted: Any) -> None:
    if field in _FOREVER or (field in _ONE_WAY and stored and not wanted):
        raise Incompatible(name, field, stored, wanted)
    if field == "subjects" and not set(stored or ()) <= set(wanted):
        raise Incompatible(
            name, field, stored, wanted, "messages under the missing subjects would be orphans"
        )


def _no_error(
    where: str,
    answer: Mapping[str, Any],
    wanted: Mapping[str, Any],
    stored: Mapping[str, Any] | None = None,
    different: Sequence[str] = (),
) -> None:
    if "error" not in answer:
        return
    reason = str(answer["error"].get("description", ""))
    if stored is None:
        raise Away(f"{where} cannot be made: {reason}")
    field = different[0] if different else "metadata"
    raise Incompatible(where, field, stored.get(field), wanted.get(field), reason)
