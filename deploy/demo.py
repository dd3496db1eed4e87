"""The demo: a signed GitHub push is delivered three times, one run comes of it, and everything about it is shown.

Uses a stack that is ready in the data directory, or starts one for as long as it takes. What it installs stays there and
is used again the next time. Every step refuses with one line when what it shows is not so.
"""

import hashlib
import hmac
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import msgspec
from msgspec import Struct

import deploy
from chassis.ids import receipt
from contracts.runs import TERMINAL
from deploy import process
from deploy.commands.here import Here
from deploy.data_directory import holder, write_whole
from deploy.operator.api import Answer, Api, problem, request
from deploy.operator.reach import api
from deploy.refusals import Refused
from deploy.stack import Running, running_stack

TEMPLATE: Final = "github-push"
DELIVERIES: Final = 3
_START_SECONDS: Final = 120.0
_STOP_SECONDS: Final = 60.0
_OPEN_SECONDS: Final = 10.0
_RUN_SECONDS: Final = 30.0
_LOOK_SECONDS: Final = 0.05


class Installed(Struct, frozen=True, kw_only=True):
    """What an earlier demo installed. Kept among the secrets: the text signs deliveries."""

    workflow: str
    trigger: str
    url: str
    secret: str


class Shown(Struct, frozen=True, kw_only=True):
    """What one demo caused."""

    run: str
    answers: tuple[Answer, ...]
    view: Mapping[str, Any]
    steps: Sequence[Mapping[str, Any]]


@contextmanager
def a_stack(here: Here) -> Iterator[Running]:
    """The stack that is ready here or will be soon, or one that lives as long as the block."""
    folder = here.data_dir()
    running = running_stack(folder)
    if running is not None:
        yield running
        return
    if holder(folder) is not None:
        here.say(f"A stack is starting in {folder}: waiting for it.")
        yield _until_ready(folder)
        return
    here.say(f"No stack is ready in {folder}: starting one.")
    child = subprocess.Popen(
        [sys.executable, "-P", "-m", "deploy.cli", "up"],
        env=dict(here.environ),
        start_new_session=True,  # Ctrl-C reaches us alone, and we stop it in order.
        preexec_fn=process.dies_with_parent(signal.SIGTERM),  # noqa: PLW1509  # One system call and no lock.
    )
    try:
        yield _until_ready(folder, child)
    finally:
        child.send_signal(signal.SIGTERM)
        child.wait(_STOP_SECONDS)


def _until_ready(folder: Path, child: "subprocess.Popen[bytes] | None" = None) -> Running:
    end = time.monotonic() + _START_SECONDS
    while time.monotonic() < end:
        running = running_stack(folder)
        if running is not None:
            return running
        if child is not None and child.poll() is not None:
            raise Refused("The stack did not start; its reason stands above.")
        if child is None and holder(folder) is None:
            raise Refused(f"The stack in {folder} has stopped.")
        time.sleep(_LOOK_SECONDS)
    raise Refused(f"The stack was not ready within {_START_SECONDS:.0f} s.")


def template(name: str = TEMPLATE) -> dict[str, Any]:
    """The files of a sample: its workflow, its trigger, and a delivery to it."""
    package = Path(deploy.__file__).parent
    for folder in (package / "templates" / name, package.parent / "templates" / name):
        if folder.is_dir():
            return {file.stem: msgspec.json.decode(file.read_bytes()) for file in folder.glob("*.json")}
    raise Refused(f"The sample {name} is not installed here.")


def installed(here: Here, client: Api, sample: Mapping[str, Any]) -> Installed:
    """What was installed before, if it is still there; else a new workflow with a trigger, published."""
    known = _known(client, _kept(here))
    if known is not None:
        here.say(f"workflow {known.workflow} is installed already; its trigger is {known.trigger}")
        return known
    name = sample["trigger"]["name"]
    workflow = client.post("/workflows", {"name": name, "definition": sample["workflow"]})["id"]
    made = client.post("/triggers", {**sample["trigger"], "workflow": workflow})
    client.post(f"/workflows/{workflow}/versions/1/publish")
    new = Installed(
        workflow=workflow, trigger=made["id"], url=made["address"]["url"], secret=made["secret"]["text"]
    )
    write_whole(_kept(here), msgspec.json.encode(new))
    here.say(f"workflow {workflow} installed and published; its trigger is {new.trigger}")
    return new


def _kept(here: Here) -> Path:
    return here.data_dir() / "secrets" / "demo.json"


def _known(client: Api, kept: Path) -> Installed | None:
    try:
        known = msgspec.json.decode(kept.read_bytes(), type=Installed)
    except (FileNotFoundError, msgspec.DecodeError):
        return None
    triggers = client.get("/triggers", workflow=known.workflow)["items"]
    alive = any(each["id"] == known.trigger and each["enabled"] for each in triggers)
    return known if alive else None


def until_open(running: Running, url: str) -> None:
    """Ingress follows what the gateway wrote within moments: a method that it does not take is refused by then."""
    end = time.monotonic() + _OPEN_SECONDS
    while (answer := _sent(running, url, "DELETE")).status != 405:
        if time.monotonic() > end:
            raise Refused(f"The webhook did not open: {problem(answer)}")
        time.sleep(_LOOK_SECONDS)


def headers_of(body: bytes, delivery: str, secret: str) -> dict[str, str]:
    """What GitHub sends with a push (docs.github.com, «Webhook events and payloads»)."""
    signed = hmac.digest(secret.encode(), body, hashlib.sha256).hex()
    older = hmac.digest(secret.encode(), body, hashlib.sha1).hex()
    return {
        "Accept": "*/*",
        "Content-Type": "application/json",
        "User-Agent": "GitHub-Hookshot/044aadd",
        "X-GitHub-Delivery": delivery,
        "X-GitHub-Event": "push",
        "X-GitHub-Hook-ID": "292430182",
        "X-GitHub-Hook-Installation-Target-ID": "186853002",
        "X-GitHub-Hook-Installation-Target-Type": "repository",
        "X-Hub-Signature": f"sha1={older}",
        "X-Hub-Signature-256": f"sha256={signed}",
    }


def deliver(running: Running, target: Installed, payload: Any) -> tuple[Answer, ...]:
    """The same delivery three times; refused when they are not taken as one."""
    body = msgspec.json.encode(payload)
    headers = headers_of(body, receipt(), target.secret)
    until_open(running, target.url)
    answers = tuple(_sent(running, target.url, "POST", body, headers) for _ in range(DELIVERIES))
    first, *others = answers
    if first.status != 202:
        raise Refused(f"The delivery was not accepted: {problem(first)}")
    run = first.json()["run"]
    for answer in others:
        told = answer.json()
        if answer.status != 200 or told.get("run") != run or told.get("deduplicated") is not True:
            raise Refused(f"A duplicate was not recognised: {problem(answer)}")
    return answers


def _sent(
    running: Running, url: str, method: str, body: bytes = b"", headers: Mapping[str, str] | None = None
) -> Answer:
    """To ingress itself: its public address may not be reachable from here."""
    return request(running.ingress_url, method, f"/hooks/{url.rpartition('/hooks/')[2]}", body, headers)


def until_read(client: Api, run: str) -> tuple[Mapping[str, Any], Sequence[Mapping[str, Any]]]:
    """The run and its steps as the read models tell them, once it has ended."""
    end = time.monotonic() + _RUN_SECONDS
    while True:
        found = [each for each in client.get("/runs")["items"] if each["id"] == run]
        if found and found[0]["status"] in TERMINAL:
            return client.get(f"/runs/{run}"), client.get(f"/runs/{run}/steps")["items"]
        if time.monotonic() > end:
            state = found[0]["status"] if found else "not projected"
            raise Refused(f"Run {run} is {state} after {_RUN_SECONDS:.0f} s: `automateos runs show {run}`.")
        time.sleep(_LOOK_SECONDS)


def show(here: Here, running: Running) -> Shown:
    """Install, deliver, and read what came of it."""
    client, sample = api(here, None), template()
    target = installed(here, client, sample)
    answers = deliver(running, target, sample["delivery"])
    run = answers[0].json()["run"]
    view, steps = until_read(client, run)
    if view["status"] != "completed":
        _kept(here).unlink(
            missing_ok=True
        )  # Whatever is wrong with what is installed: the next demo installs anew.
        reason = view["error"]["message"] if view["error"] else "no reason given"
        raise Refused(f"Run {run} {view['status']}: {reason}")
    return Shown(run=run, answers=answers, view=view, steps=steps)


def mails(here: Here) -> list[str]:
    """What the mail server of the stack has kept."""
    return sorted(os.fspath(path) for path in (here.data_dir() / "mail").glob("*.eml"))
