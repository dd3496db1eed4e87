"""How the workflows of a campaign are drawn: every action is a call of the world, so that the world can say what happened."""

import itertools
from typing import Any, Final

from msgspec import Struct

CALL_SECONDS: Final = 1.5
"""How long a call waits for its answer: less than the world takes when it is late."""
_PATIENT: Final = {"attempts": 8, "first_pause_s": 0.4, "factor": 1.7, "longest_pause_s": 5}
_ANSWER_SECONDS: Final = 20
_QUESTIONS: Final = {
    "kind": "form",
    "title": "Chaos",
    "questions": {
        "properties": {"n": {"type": "integer"}, "seconds": {"type": "number"}},
        "required": ["n"],
    },
    "per_minute": 100_000,
    "per_address": 10_000,
}


FORM, CHAT = "form", "chat"
"""The shapes that are started by what a program fills in, and by what somebody says."""
_TALKS: Final = 9


class Shape(Struct, frozen=True, kw_only=True):
    """One workflow and how it is started."""

    name: str
    weight: int
    """Its share of the deliveries."""
    definition: dict[str, Any]
    responds: bool = False
    people: bool = False
    """Its runs may wait for somebody who decides, or are cancelled."""
    form: bool = False
    """It is started by what a program fills into a form."""
    chat: bool = False
    """It is started by what somebody says, and answers it."""
    signed: bool = False
    """Its address takes only what is signed as GitHub signs."""

    @property
    def trigger(self) -> dict[str, Any]:
        """How it is opened to the world."""
        patience = {"respond_timeout_s": _ANSWER_SECONDS}
        if self.form:
            return {"on": _QUESTIONS}
        if self.chat:
            return {"on": {"kind": "chat", "per_minute": 1_000_000, **patience}}
        mode = {"mode": "respond", **patience} if self.responds else {"mode": "accept"}
        if self.signed:
            mode = mode | {"authentication": {"scheme": "github", "secret": "generate"}}
        by_key = {"by": "preset", "preset": "idempotency_key"}
        return {"webhook": mode | {"per_minute": 1_000_000, "dedupe": by_key}}


def said(shape: str, key: str, number: int) -> dict[str, Any]:
    """What is sent for the delivery of this number."""
    if shape == CHAT:
        return {"session": _talk(key), "id": key, "message": f"And what of {number}?"}
    return {"n": number, "seconds": 1 + (number * 7 % 40) / 10}


def named(shape: str, key: str) -> str:
    """The key of the run that a delivery starts."""
    if shape == CHAT:
        return f"{_talk(key)}:{key}"
    return f"form:program:{key}" if shape == FORM else key


def _talk(key: str) -> str:
    """Whose message it is: a few talk all the time."""
    return f"talk-{int(key.rpartition('-')[2]) % _TALKS}"


def call(name: str, world: str, kind: str, path: str = "", **body: str) -> dict[str, Any]:
    """A node that calls the world: `PUT` is safe to repeat, `KEYED` by its key, `POST` is not."""
    method = "POST" if kind in {"POST", "KEYED"} else "PUT"
    config: dict[str, Any] = {
        "method": method,
        "url": f"{world}/{path or kind.lower()}/{name}",
        "body": body or {"n": "{{ trigger.body.n }}"},
        "timeout_s": CALL_SECONDS,
    }
    if kind == "KEYED":
        config["honours_key"] = True
    # What must not be repeated blindly is not repeated at all: a person decides.
    retry = {} if kind == "POST" else {"retry": _PATIENT}
    return {"id": name, "type": "http.request", "config": config, "timeout_s": 20, **retry}


def row(*nodes: dict[str, Any]) -> dict[str, Any]:
    """One behind the other."""
    edges = [{"source": one["id"], "target": next_["id"]} for one, next_ in itertools.pairwise(nodes)]
    return {"nodes": list(nodes), "edges": edges}


def forked(*nodes: dict[str, Any], ways: str) -> dict[str, Any]:
    """Nodes, and where each goes on: `ask.approved>yes ask.timeout>late`."""
    edges: list[dict[str, str]] = []
    for way in ways.split():
        source, _, target = way.partition(">")
        node, _, port = source.partition(".")
        edges.append({"source": node, "target": target, **({"port": port} if port else {})})
    return {"nodes": list(nodes), "edges": edges}
