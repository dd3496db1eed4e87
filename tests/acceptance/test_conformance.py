"""The conformance cases that need no power over time or misfortune, played by a running installation over its API."""

import json
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import datetime
from typing import Any

from msgspec import Raw, Struct

from contracts.runs import TERMINAL
from deploy.testing.installation import Installation
from tests.conformance.case import Cancellation, Case, Delivery, Expected, Retry, Saying, files, read
from tests.conformance.compare import events_differ, plain, same

PATIENCE = 60.0
BEGAN = datetime.fromisoformat("2026-11-20T12:00:00+00:00")
CASES = {path.stem: case for path in files() if (case := read(path)).installation}


class Begun(Struct, kw_only=True):
    """A case under way."""

    case: Case
    workflow: str
    run: str = ""
    answers: list[str] = []


def test_enough_cases_are_played() -> None:
    assert len([case for case in CASES.values() if case.script]) >= 50
    assert len([case for case in CASES.values() if case.faults]) >= 20


def test_a_running_installation_finds_the_same_faults(installed: Installation) -> None:
    for name, case in CASES.items():
        if case.faults:
            told = ask(
                installed, "POST", "/workflows/validate", {"definition": json.loads(bytes(case.workflow))}
            )
            wanted = [(fault.code, fault.pointer, fault.position) for fault in case.faults]
            found = [(each["code"], each["pointer"], each.get("position")) for each in told["faults"]]
            assert found == wanted, name


def test_a_running_installation_records_the_same_histories(installed: Installation) -> None:
    begun = {name: begin(installed, name, case) for name, case in CASES.items() if case.script}
    found = {name: list(differences(installed, each)) for name, each in begun.items()}
    assert {name: each for name, each in found.items() if each} == {}


def begin(installed: Installation, name: str, case: Case) -> Begun:
    definition = json.loads(bytes(case.workflow))
    workflow = ask(installed, "POST", "/workflows", {"name": name, "definition": definition})["id"]
    ask(installed, "POST", f"/workflows/{workflow}/versions/1/publish")
    begun = Begun(case=case, workflow=workflow)
    deliver(installed, begun, case.script[0])
    return begun


def deliver(installed: Installation, begun: Begun, happening: Any) -> None:
    assert isinstance(happening, Delivery)
    wanted = {"workflow": begun.workflow, "input": json.loads(bytes(begun.case.input))}
    key = f"{begun.workflow}-{happening.key}"
    started = ask(installed, "POST", "/runs", wanted, key=key)
    begun.run = begun.run or started["run"]
    # What an orchestrator does not answer at once is kept for it.
    begun.answers.append({"queued": "accepted"}.get(started["status"], started["status"]))


def differences(installed: Installation, begun: Begun) -> Iterator[str]:
    """What the history says otherwise than the case. Outcomes come by themselves: the executors are real."""
    expected = begun.case.expected
    assert isinstance(expected, Expected)
    wanted = list(begun.case.script[0].then)
    for happening in begun.case.script[1:]:
        if isinstance(happening, Delivery):
            deliver(installed, begun, happening)
        elif type(happening) in WISHES:
            history(installed, begun, len(wanted))
            yield from wish(installed, begun, happening)
        wanted += happening.then
    events = history(installed, begun, len(wanted))
    yield from events_differ("history", wanted, events)
    answers = [each.answer for each in begun.case.script if isinstance(each, Delivery)]
    if begun.answers != answers:
        yield f"answered {begun.answers}, not {answers}"
    last = events[-1] if events else {"type": "nothing"}
    if isinstance(expected.output, Raw) and not same(json.loads(bytes(expected.output)), last.get("output")):
        yield f"gave {last.get('output')}"
    if expected.status in TERMINAL and last["type"] != f"run.{expected.status}":
        yield f"ended with {last['type']}"


WISHES: Mapping[type, tuple[str, Callable[[Any], Any]]] = {
    Cancellation: ("cancel", lambda wanted: {"reason": wanted.reason}),
    Retry: ("retry", lambda wanted: {"steps": wanted.steps}),
    Saying: ("signals", lambda said: {"signal": said.signal, "body": json.loads(bytes(said.body))}),
}
"""Where a person says it, and what."""


def wish(installed: Installation, begun: Begun, happening: Any) -> Iterator[str]:
    place, body = WISHES[type(happening)]
    key = getattr(happening, "key", "")
    told = ask(installed, "POST", f"/runs/{begun.run}/{place}", body(happening), key, [happening.refused])
    if told.get("code") != happening.refused:
        yield f"{place}: {told}, not {happening.refused}"


def history(installed: Installation, begun: Begun, least: int) -> list[dict[str, Any]]:
    """The events, once there are as many as are expected."""
    end = time.monotonic() + PATIENCE
    while True:
        items = ask(installed, "GET", f"/runs/{begun.run}/events", refusals=["not_found"]).get("items", [])
        if len(items) >= least or time.monotonic() > end:
            return [plain(json.dumps(item["event"]).encode(), begun.run, BEGAN) for item in items]
        time.sleep(0.2)


def ask(
    installed: Installation,
    method: str,
    path: str,
    body: Any = None,
    key: str = "",
    refusals: Sequence[str] = (),
) -> Any:
    """What the API says, refusals included; whoever is told to come again later does."""
    request = urllib.request.Request(
        f"{installed.gateway}/api/v1{path}",
        method=method,
        data=None if body is None else json.dumps(body).encode(),
        headers={"authorization": f"Bearer {installed.key}", "content-type": "application/json"}
        | ({"idempotency-key": key} if key else {}),
    )
    end = time.monotonic() + PATIENCE
    while True:
        try:
            with urllib.request.urlopen(request, timeout=30) as answer:
                return json.loads(answer.read() or b"null")
        except urllib.error.HTTPError as error:
            if error.code != 429 or time.monotonic() > end:
                problem = json.loads(error.read())
                assert problem["code"] in refusals, f"{method} {path}: {problem}"
                return problem
            time.sleep(float(error.headers.get("retry-after", "1")))
