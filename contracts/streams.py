"""Every stream, consumer and bucket, declared once and reconciled at start.

The settings are JetStream's own JSON fields. What may never change on a stream that exists is refused with its reason.
"""

from typing import Annotated, Any, Final, Literal

from msgspec import Meta, Struct

from contracts import subjects
from contracts.limits import FIRES_KEPT, GATE_COMMITS, LEASE_SECONDS, MIB, PARTITIONS, WORKER_LEASE_SECONDS

_SECOND: Final = 1_000_000_000
_DAY: Final = 24 * 3600 * _SECOND
_DEDUPE_WINDOW: Final = 120 * _SECOND
_WITH_HISTORY: Final[dict[str, Any]] = {
    "retention": "limits",
    "discard": "new",
    "max_bytes": -1,
    "deny_delete": True,
    "allow_direct": True,
    "allow_atomic": True,
    # nats-server 2.15.1 damaged compressed blocks of two copies out of three after kill -9 (decision 0012).
    "compression": "none",
}


class Stream(Struct, frozen=True, kw_only=True):
    """One stream of the log."""

    name: str
    subjects: tuple[str, ...]
    what: str
    writer: str
    config: dict[str, Any]
    batches: bool = False
    """Written by atomic batches, so its staging folder is worth a place in memory."""

    def settings(self, replicas: int = 1) -> dict[str, Any]:
        """The JSON that JetStream takes."""
        config = {
            "name": self.name,
            "subjects": list(self.subjects),
            "storage": "file",
            "num_replicas": replicas,
            "duplicate_window": _DEDUPE_WINDOW,
            **self.config,
        }
        if replicas > 1:
            config.pop("persist_mode", None)  # JetStream has it for single copies only.
        return config


class Consumer(Struct, frozen=True, kw_only=True):
    """One durable that several processes share."""

    stream: str
    name: str
    filter: str
    config: dict[str, Any]

    def settings(self) -> dict[str, Any]:
        return {
            "durable_name": self.name,
            "name": self.name,
            "filter_subject": self.filter,
            "ack_policy": "explicit",
            "deliver_policy": "all",
            "replay_policy": "instant",
            "num_replicas": 0,
            "max_deliver": -1,
            **self.config,
        }


class Bucket(Struct, frozen=True, kw_only=True):
    """A key-value or object bucket; what it holds can be made again or is named by its hash."""

    name: str
    kind: Literal["values", "objects"]
    what: str
    bytes: Annotated[int, Meta(ge=-1)] = -1


STREAMS: Final = (
    Stream(
        name=subjects.RUNS,
        subjects=("run.*.*",),
        what="The history of runs: one message is one commit.",
        writer="orchestrator",
        config=_WITH_HISTORY | {"republish": {"src": "run.>", "dest": f"{subjects.LIVE}.run.>"}},
        batches=True,
    ),
    Stream(
        name=subjects.DOMAIN,
        subjects=("evt.*.*.*",),
        what="Everything else that has a history: workflows, triggers, orgs, secrets, keys.",
        writer="gateway",
        config=_WITH_HISTORY | {"republish": {"src": "evt.>", "dest": f"{subjects.LIVE}.evt.>"}},
    ),
    Stream(
        name=subjects.INBOX,
        subjects=("inbox.*.bundle", "inbox.*.*.*", "timer.*.*.*"),
        what="What should be looked at and could not be said directly: timers, looks, bundles.",
        writer="ingress, gateway, executor, orchestrator, projections",
        config={"retention": "limits", "allow_msg_schedules": True, "allow_direct": True, "discard": "old"},
    ),
    Stream(
        name=subjects.TASKS,
        subjects=("task.*.*.*.*.*",),
        what="Attempts to make; derivable from RUNS.",
        writer="orchestrator",
        config={
            "retention": "workqueue",
            "discard": "new",
            "discard_new_per_subject": True,
            "max_msgs_per_subject": 1,
            "max_bytes": 4096 * MIB,
            "persist_mode": "async",
            "allow_direct": True,
        },
    ),
    Stream(
        name=subjects.EFFECTS,
        subjects=("effect.*.*.*.*",),
        what="“I begin this call now”, for effects that must not be repeated blindly.",
        writer="executor, gateway",
        config={"retention": "limits", "discard": "new", "max_bytes": -1, "allow_direct": True},
    ),
    Stream(
        name=subjects.SCHEDULES,
        subjects=("sched.*.*",),
        what="Fires of schedules and missed ones: the newest of each schedule; the last commit holds the whole state.",
        writer="orchestrator",
        config=_WITH_HISTORY | {"max_msgs_per_subject": FIRES_KEPT},
    ),
    Stream(
        name=subjects.GATES,
        subjects=("gate.*.*",),
        what="Who is inside of each gate: its newest commits; the last one holds the whole state.",
        writer="orchestrator",
        config=_WITH_HISTORY | {"max_msgs_per_subject": GATE_COMMITS},
    ),
    Stream(
        name=subjects.ANCHORS,
        subjects=("anchor.*",),
        what="Signed Merkle roots over the heads of histories.",
        writer="projections",
        config={k: v for k, v in _WITH_HISTORY.items() if k != "allow_atomic"},
    ),
    Stream(
        name=subjects.HOOKS,
        subjects=("hook.*.*",),
        # Synced: what comes after a crash must not take the numbers of what projections have read.
        what="Deliveries that started no run.",
        writer="ingress, projections",
        config={
            "retention": "limits",
            "discard": "old",
            "max_age": 30 * _DAY,
            "max_msgs_per_subject": 1_000,
            "max_bytes": 1024 * MIB,
            "allow_direct": True,
        },
    ),
    Stream(
        name=subjects.LOGS,
        subjects=("log.*.*.*",),
        what="Log lines of steps.",
        writer="executor",
        config={
            "retention": "limits",
            "discard": "old",
            "max_age": 7 * _DAY,
            "max_bytes": 1024 * MIB,
            "persist_mode": "async",
            "allow_direct": True,
        },
    ),
    Stream(
        name=subjects.DLQ,
        subjects=("dlq.*.*.*",),
        what="Messages that no code could handle, with the error.",
        writer="every service",
        config={"retention": "limits", "discard": "new", "max_bytes": 1024 * MIB, "allow_direct": True},
    ),
)

OWNERS: Final = tuple(
    Consumer(
        stream=subjects.INBOX,
        name=subjects.owner(number),
        filter=subjects.inbox_filter(number),
        config={
            # What a dead owner had taken comes to the next one after this; a living one acknowledges within moments.
            "ack_wait": int(LEASE_SECONDS * _SECOND),
            "max_ack_pending": 5_000,
            "priority_groups": [subjects.OWNER_GROUP],
            "priority_policy": "pinned_client",
            "priority_timeout": int(1.5 * _SECOND),
        },
    )
    for number in range(PARTITIONS)
)


def pool_consumer(pool: str) -> Consumer:
    """The durable from which the executors of a pool take their tasks."""
    return Consumer(
        stream=subjects.TASKS,
        name=subjects.pool_durable(pool),
        filter=subjects.task_filter(pool),
        config={"ack_wait": int(LEASE_SECONDS * _SECOND), "max_ack_pending": 10_000},
    )


def worker_consumer(org: str, pool: str) -> Consumer:
    """The durable from which an org's workers outside are given the tasks of one pool."""
    return Consumer(
        stream=subjects.TASKS,
        name=subjects.worker_durable(org, pool),
        filter=subjects.worker_filter(org, pool),
        config={"ack_wait": int(WORKER_LEASE_SECONDS * _SECOND), "max_ack_pending": 10_000},
    )


BUCKETS: Final = (
    Bucket(name=subjects.NODES_BUCKET, kind="values", what="The node types that executors announced."),
    Bucket(
        name=subjects.BLOBS_BUCKET, kind="objects", what="Values over 64 KiB and plans, named by their hash."
    ),
    Bucket(
        name=subjects.MARKS_BUCKET,
        kind="values",
        what="What holds for the whole installation from some moment on, such as that tombstones have left RUNS.",
    ),
)
