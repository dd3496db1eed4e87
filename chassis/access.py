"""Who may do what at nats-server: one user per service, allowed exactly what it does; outsiders in accounts of their own.

Rule: allow-lists only. Whatever is not named here is refused, also what a later release adds and forgets to name.
An org's programs outside sit in an account of their own and reach only what is exported to it, because in our account
whoever may pull could choose where the answer goes, and so put messages anywhere.
"""

import json
import sys
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Final

from msgspec import Struct

from chassis.jetstream.connection import inbox_prefix
from chassis.reconcile import external_name
from contracts import subjects

SUPERVISOR: Final = "supervisor"
"""Makes the streams, looks after them, and is whom the operator's commands work as."""
SERVICES: Final = ("ingress", "orchestrator", "executor", "projections", "gateway")
FIRST_ORG: Final = "org_default"

_BLOBS: Final = f"OBJ_{subjects.BLOBS_BUCKET}"
_NODES: Final = f"KV_{subjects.NODES_BUCKET}"
_CALLS: Final = ("orch.*", "inbox.*.bundle")
"""Saying something to a run's owner: directly, or by way of INBOX."""
_PUT_BLOBS: Final = (f"$O.{subjects.BLOBS_BUCKET}.>",)
_MARKS: Final = f"KV_{subjects.MARKS_BUCKET}"
_MARK: Final = (f"$KV.{subjects.MARKS_BUCKET}.>",)
_ANNOUNCE: Final = (f"$KV.{subjects.NODES_BUCKET}.>",)
_DEAD: Final = ("dlq.>",)
_BACKLOG: Final = f"$JS.API.CONSUMER.LIST.{subjects.TASKS}"


class Access(Struct, frozen=True, kw_only=True):
    """What one user may say and hear."""

    publishes: tuple[str, ...]
    hears: tuple[str, ...]


def users(orgs: Sequence[str] = (FIRST_ORG,)) -> tuple[str, ...]:
    """The names of everybody who gets a key, the orgs' outsiders included."""
    return (SUPERVISOR, *SERVICES, *map(outsider, orgs))


def outsider(org: str) -> str:
    """The user of programs outside that read an org's runs."""
    return f"outside_{org}"


def access() -> dict[str, Access]:
    """What each of our own users may do."""
    said = {
        SUPERVISOR: (
            "$JS.API.>",
            *_CALLS,
            "inbox.*.*.*",
            "run.*.*",
            "evt.*.*.*",
            *_MARK,
            "svc.orchestrator.*",
        ),
        "ingress": (
            *_CALLS,
            "hook.*.*",
            *_PUT_BLOBS,
            *_reads("RUNS", _BLOBS, _MARKS),
            *_follows("DOMAIN"),
            _BACKLOG,
        ),
        "orchestrator": (
            *("run.*.*", "task.>", "timer.*.*.*", "inbox.*.bundle", "cancel.*.*", "reply.*.*.*"),
            *(*_DEAD, *_PUT_BLOBS, *_ANNOUNCE),
            # What a schedule decided, and asking for the runs that it starts.
            *("sched.*.*", "orch.*"),
            # Who is inside of a gate.
            "gate.*.*",
            # What is paused, how many tasks of a pool lie there, and saying what is held because of it.
            *_follows("DOMAIN"),
            *("$JS.API.CONSUMER.INFO.TASKS.*", subjects.HELD),
            *(f"{inbox_prefix(asker)}.>" for asker in (*SERVICES, SUPERVISOR)),
            *_reads("RUNS", "DOMAIN", "SCHEDULES", "GATES", "TASKS", "INBOX", _BLOBS, _NODES, _MARKS),
            *(f"$JS.API.CONSUMER.{verb}.INBOX.*" for verb in ("MSG.NEXT", "INFO", "RESET", "UNPIN")),
            *_acknowledges("INBOX"),
            "$JS.API.STREAM.PURGE.INBOX",
            # Tasks of attempts that were let go in a pool that nobody serves.
            "$JS.API.STREAM.PURGE.TASKS",
        ),
        "executor": (
            *(*_CALLS, "effect.>", "log.>", "here.*", *_DEAD, *_PUT_BLOBS, *_ANNOUNCE),
            *_reads("RUNS", "EFFECTS", _BLOBS, _NODES),
            "$JS.API.CONSUMER.CREATE.TASKS.*.task.*.>",
            "$JS.API.CONSUMER.MSG.NEXT.TASKS.*",
            *_acknowledges("TASKS"),
            # What is acknowledged and lies there all the same, after a nats-server that was killed.
            "$JS.API.CONSUMER.INFO.TASKS.*",
            "$JS.API.STREAM.MSG.GET.TASKS",
            "$JS.API.STREAM.PURGE.TASKS",
        ),
        "projections": (
            *(*_CALLS, "anchor.*", *_DEAD, *_PUT_BLOBS, *_MARK),
            # What a trigger that follows events did not start.
            "hook.*.*",
            *_reads("RUNS", "DOMAIN", "ANCHORS", "INBOX", _BLOBS, _NODES, _MARKS),
            *_follows("RUNS", "DOMAIN", "SCHEDULES", "HOOKS", "DLQ", "LOGS"),
            *_looks("EFFECTS"),
            # The archiver lets go of what Postgres has; the collector of what no history names.
            *(f"$JS.API.STREAM.PURGE.{stream}" for stream in ("RUNS", "DOMAIN", "EFFECTS", _BLOBS)),
        ),
        "gateway": (
            *(*_CALLS, "evt.*.*.*", "svc.orchestrator.*", *_PUT_BLOBS),
            # Where a poll goes on, for whoever tries it out.
            *_reads("RUNS", "DOMAIN", "HOOKS", "LOGS", _BLOBS, _NODES, _MARKS),
            *_follows("RUNS", "DOMAIN", _NODES),
            # Pools: who takes what, holding one, asking an executor to leave.
            *(_BACKLOG, f"$JS.API.CONSUMER.PAUSE.{subjects.TASKS}.*", "drain.*"),
            # Workers outside: their durables, what they are given, and “I begin this call now” on their behalf.
            "$JS.API.CONSUMER.CREATE.TASKS.*.task.*.*.>",
            "$JS.API.CONSUMER.MSG.NEXT.TASKS.*",
            *(*_acknowledges("TASKS"), "effect.>", *_reads("EFFECTS", "TASKS"), *_DEAD),
        ),
    }
    heard = {
        SUPERVISOR: (f"{subjects.LIVE}.>",),
        "ingress": ("reply.ingress.*.*", subjects.HELD),
        "orchestrator": ("orch.*", "svc.orchestrator.*", "reply.orchestrator.*.here", subjects.HELD),
        "executor": (subjects.CANCEL_ALL, "drain.*"),
        "projections": (),
        "gateway": (
            *(f"{subjects.LIVE}.>", "reply.gateway.*.*", subjects.HELD),
            *(subjects.HERE_ALL, subjects.CANCEL_ALL),
        ),
    }
    return {
        name: Access(
            # Every process asks for the epochs of the log, and how full its disk is.
            publishes=_once((*said[name], "$JS.API.INFO", *_looks("RUNS", "DOMAIN"))),
            hears=(f"{inbox_prefix(name)}.>", *heard[name]),
        )
        for name in said
    }


def outside_access(org: str) -> Access:
    """What programs outside may do in their account: read one org's runs."""
    return Access(
        publishes=tuple(subject for subject, _ in _outside_services(org)),
        hears=("_INBOX.>", f"{inbox_prefix(outsider(org))}.>", f"{subjects.LIVE}.run.{org}.*"),
    )


def accounts(keys: Mapping[str, str], orgs: Sequence[str] = (FIRST_ORG,)) -> str:
    """nats-server's `accounts` block. `keys`: from the names of `users` to their public nkeys."""
    ours = ",\n".join(_user(keys[name], allowed) for name, allowed in access().items())
    exports = ",\n".join(export for org in orgs for export in _exports(org))
    outside = "\n".join(_outside(org, keys[outsider(org)]) for org in orgs)
    return (
        f"accounts {{\n  APP {{\n    jetstream: enabled\n    users: [\n{ours}\n    ]\n"
        f"    exports: [\n{exports}\n    ]\n  }}\n{outside}\n  SYS {{}}\n}}\nsystem_account: SYS\n"
    )


def table(orgs: Sequence[str] = (FIRST_ORG,)) -> str:
    """The same for people, in Markdown."""
    rows = {**access(), **{outsider(org): outside_access(org) for org in orgs}}
    lines = ["| user | publishes | hears |", "|---|---|---|"]
    for name, allowed in rows.items():
        said, heard = (
            "<br>".join(f"`{subject}`" for subject in each) for each in (allowed.publishes, allowed.hears)
        )
        lines.append(f"| **{name}** | {said} | {heard} |")
    return "\n".join(lines) + "\n"


def document() -> str:
    """The page of the reference, as committed under docs/reference; `python -m chassis.access` writes it."""
    return (
        "# Who may do what at nats-server\n\n"
        "Generated from `chassis/access.py`. Allow-lists only: what is not named here is refused. Programs outside sit\n"
        "in an account of their own per org (`ORG_<org>`) and reach only what is exported to it: they pull from the\n"
        "durable `ext_<org>` that is made for them, read last messages directly, and hear commits live.\n\n"
        + table()
    )


def main() -> None:
    Path(sys.argv[1] if len(sys.argv) > 1 else "docs/reference/nats-access.md").write_text(document())


def account_of(org: str) -> str:
    """The name of the account in which an org's outsiders are."""
    return f"ORG_{org}"


# --- What belongs to an operation -------------------------------------------------------------


def _looks(*streams: str) -> Iterable[str]:
    return (f"$JS.API.STREAM.INFO.{stream}" for stream in streams)


def _reads(*streams: str) -> Iterable[str]:
    """Single messages and histories."""
    verbs = ("DIRECT.GET", "STREAM.MSG.GET", "STREAM.INFO")
    return (f"$JS.API.{verb}.{stream}" for stream in streams for verb in verbs)


def _follows(*streams: str) -> Iterable[str]:
    """Whole streams, by throw-away consumers."""
    for stream in streams:
        yield from _looks(stream)
        yield f"$JS.API.CONSUMER.CREATE.{stream}.>"
        yield f"$JS.API.CONSUMER.MSG.NEXT.{stream}.*"


def _acknowledges(stream: str) -> Iterable[str]:
    """Both forms of the subject that nats-server may give (nats.md §1.3)."""
    return (f"$JS.ACK.{stream}.>", f"$JS.ACK.*.*.{stream}.>")


def _once(names: Iterable[str]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(names))


# --- The text ---------------------------------------------------------------------------------


def _user(key: str, allowed: Access) -> str:
    publishes, hears = (_list(each) for each in (allowed.publishes, allowed.hears))
    return (
        f"      {{ nkey: {key}, permissions: {{\n"
        f"        publish: {{ allow: {publishes} }},\n"
        f"        subscribe: {{ allow: {hears} }} }} }}"
    )


def _list(names: Iterable[str]) -> str:
    return "[" + ", ".join(json.dumps(name) for name in names) + "]"


def _outside_services(org: str) -> list[tuple[str, str]]:
    """What an outsider may ask for, and how many answers come.

    Not CONSUMER.INFO: the server looks for the consumer in the account of whoever asks. Each message says how many wait.
    """
    consumer = external_name(org)
    return [
        (f"$JS.API.CONSUMER.MSG.NEXT.{subjects.RUNS}.{consumer}", "stream"),
        (f"$JS.ACK.{subjects.RUNS}.{consumer}.>", "stream"),
        (f"$JS.API.DIRECT.GET.{subjects.RUNS}.run.{org}.>", "singleton"),
    ]


def _exports(org: str) -> Iterable[str]:
    account = account_of(org)
    for subject, kind in _outside_services(org):
        yield f'      {{ service: "{subject}", response_type: {kind}, accounts: [{account}] }}'
    yield f'      {{ stream: "{subjects.LIVE}.run.{org}.*", accounts: [{account}] }}'


def _outside(org: str, key: str) -> str:
    imports = [
        f'      {{ service: {{ account: APP, subject: "{subject}" }} }}'
        for subject, _ in _outside_services(org)
    ]
    imports.append(f'      {{ stream: {{ account: APP, subject: "{subjects.LIVE}.run.{org}.*" }} }}')
    joined = ",\n".join(imports)
    return (
        f"  {account_of(org)} {{\n    users: [\n{_user(key, outside_access(org))}\n    ]\n"
        f"    imports: [\n{joined}\n    ]\n  }}"
    )


if __name__ == "__main__":
    main()
