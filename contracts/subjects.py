"""The only file that spells a NATS subject, a stream, a durable or a bucket."""

import base64
import hashlib
import zlib
from functools import lru_cache

from contracts.limits import PARTITIONS

RUNS = "RUNS"
DOMAIN = "DOMAIN"
INBOX = "INBOX"
TASKS = "TASKS"
EFFECTS = "EFFECTS"
SCHEDULES = "SCHEDULES"
GATES = "GATES"
ANCHORS = "ANCHORS"
HOOKS = "HOOKS"
LOGS = "LOGS"
DLQ = "DLQ"

NODES_BUCKET = "NODES"
BLOBS_BUCKET = "BLOBS"
MARKS_BUCKET = "MARKS"

NOBODY = "_"
"""The reserved org of what belongs to none."""


@lru_cache(maxsize=4096)
def partition(run: str) -> int:
    """Which owner decides about a run. Only the transient inbox knows partitions; histories never do."""
    return zlib.crc32(run.encode()) % PARTITIONS


@lru_cache(maxsize=1024)
def token(text: str) -> str:
    """A name of any shape (a step path, a wait) as one subject token: 26 characters of base32 of its SHA-256."""
    return base64.b32encode(hashlib.sha256(text.encode()).digest())[:26].decode().lower()


def run(org: str, run_id: str) -> str:
    return f"run.{org}.{run_id}"


def domain(org: str, aggregate: str, aggregate_id: str) -> str:
    return f"evt.{org}.{aggregate}.{aggregate_id}"


def bundle(number: int) -> str:
    return f"inbox.{number}.bundle"


def inbox(number: int, org: str, run_id: str) -> str:
    return f"inbox.{number}.{org}.{run_id}"


def inbox_filter(number: int) -> str:
    return f"inbox.{number}.>"


def timer(org: str, run_id: str, wait: str) -> str:
    return f"timer.{org}.{run_id}.{token(wait)}"


def call(number: int) -> str:
    """Where the owner of a partition is called directly."""
    return f"orch.{number}"


def task(pool: str, org: str, run_id: str, step: str, attempt: int) -> str:
    return f"task.{pool}.{org}.{run_id}.{token(step)}.{attempt}"


def task_filter(pool: str) -> str:
    return f"task.{pool}.>"


def effect(org: str, run_id: str, step: str, attempt: int) -> str:
    return f"effect.{org}.{run_id}.{token(step)}.{attempt}"


def cancel(org: str, run_id: str) -> str:
    """Core NATS, to every executor: let go of attempts of this run."""
    return f"cancel.{org}.{run_id}"


CANCEL_ALL = "cancel.>"


def here(pool: str) -> str:
    """Core NATS, to whoever wants to know: an executor of this pool is there."""
    return f"here.{pool}"


HERE_ALL = "here.*"


def drain(executor: str) -> str:
    """Core NATS, to one executor: take nothing more, and leave when you are done."""
    return f"drain.{executor}"


def schedule(org: str, trigger: str) -> str:
    """What became of a schedule's planned times."""
    return f"sched.{org}.{trigger}"


def gate(org: str, gate_id: str) -> str:
    """Who is inside of a gate."""
    return f"gate.{org}.{gate_id}"


def hook(org: str, trigger: str) -> str:
    return f"hook.{org}.{trigger}"


def log(org: str, run_id: str, step: str) -> str:
    return f"log.{org}.{run_id}.{token(step)}"


def logs(org: str, run_id: str) -> str:
    """The log lines of all steps of a run."""
    return f"log.{org}.{run_id}.*"


def dead_letter(stream: str, org: str, run_id: str) -> str:
    return f"dlq.{stream}.{org}.{run_id}"


def reply(service: str, instance: str, number: int | str) -> str:
    """A subject on which one instance of a service awaits one answer."""
    return f"reply.{service}.{instance}.{number}"


def anchor(epoch: int) -> str:
    return f"anchor.{epoch}"


def owner(number: int) -> str:
    """The durable through which one partition of INBOX has one owner."""
    return f"orch-{number}"


def pool_durable(pool: str) -> str:
    return f"exec-{pool}"


def worker_filter(org: str, pool: str) -> str:
    """What workers outside are given: tasks of their pool and of their org."""
    return f"task.{pool}.{org}.>"


WORKER_DURABLES = "work-"
"""How the names of the durables of pools of workers outside begin."""


def worker_durable(org: str, pool: str) -> str:
    """Of one org and one pool alone: `~` stands in no name, so no two pairs share one."""
    return f"{WORKER_DURABLES}{org}~{pool}"


def mark(name: str) -> str:
    """One thing that holds for the whole installation from some moment on."""
    return f"$KV.{MARKS_BUCKET}.{name}"


def cursor(org: str, trigger: str) -> str:
    """Where the next poll of a trigger begins."""
    return mark(f"poll-{token(f'{org}.{trigger}')}")


HORIZON = mark("horizon")
"""There when tombstones of runs with a dedupe key may have left RUNS: from then on the archive is asked before a start."""

OWNER_GROUP = "owner"
LIVE = "live"
"""Prefix of the republished RUNS subjects: at most once, for glances."""

PAUSES = "evt.*.pauses.*"
"""What is paused, of every org."""
HELD = "held.orchestrator"
"""Core NATS: how much each orchestrator holds."""

COMPILE = "svc.orchestrator.compile"
INSPECT = "svc.orchestrator.inspect"
