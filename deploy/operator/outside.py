"""Follows an org's runs as a program outside does: plain nats-py, the outsiders' own key and account, nothing else.

docs/events.md shows the same in a page. What is heard here is at most once, from now on; a program that must miss nothing
pulls from the org's durable instead.
"""

import json
from collections.abc import AsyncIterator
from typing import Any

import nats
from nats.aio.msg import Msg

from chassis.access import outsider
from contracts.cloudevents import EVENT_TYPES, attribute
from contracts.subjects import LIVE
from contracts.subjects import run as run_subject
from deploy.commands.here import Here
from deploy.refusals import Refused


async def follow(here: Here, org: str, *, as_json: bool) -> AsyncIterator[str]:
    """One line for each commit, for ever."""
    url = here.running().servers.nats_url
    seed = here.data_dir() / "secrets" / "nats" / f"{outsider(org)}.seed"
    if not seed.exists():
        raise Refused(f"Programs outside have no key for org {org}: {seed} is not there.")
    client = await nats.connect(url, nkeys_seed=str(seed), name="automateos events tail")
    try:
        subscription = await client.subscribe(f"{LIVE}.{run_subject(org, '*')}")
        async for message in subscription.messages:
            yield _json(message) if as_json else _line(message)
    finally:
        await client.close()


def _line(message: Msg) -> str:
    headers = message.headers or {}
    return "  ".join(
        (
            attribute(headers, "time"),
            attribute(headers, "type"),
            attribute(headers, "source"),
            headers.get(EVENT_TYPES, ""),
        )
    )


def _json(message: Msg) -> str:
    told: dict[str, Any] = {
        "subject": message.subject,
        "headers": dict(message.headers or {}),
        "commit": json.loads(message.data),
    }
    return json.dumps(told)
