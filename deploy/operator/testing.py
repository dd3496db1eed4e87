"""Runs the cases of a workflow through the API, several at a time, and says what came of each."""

import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Final, Literal
from urllib.parse import quote

from msgspec import Struct

from deploy.commands.here import plain
from deploy.operator.api import Api
from deploy.refusals import Refused

FIRST_PAUSE: Final = 0.2
LONGEST_PAUSE: Final = 2.0
"""Between two looks: so that any number of cases stays within the calls that a key has a minute."""
WORKFLOWS: Final = 10_000
"""So many are looked through for a name."""


class Told(Struct, frozen=True, kw_only=True):
    """What came of one case. `error`: it could not be run, or did not end."""

    case: str
    state: Literal["passed", "failed", "error"]
    run: str | None = None
    took_s: float = 0.0
    message: str = ""
    differences: tuple[Any, ...] = ()
    """As the API tells them."""


class _UnderWay(Struct, frozen=True):
    case: str
    run: str
    since: float


def workflow_named(client: Api, wanted: str) -> Any:
    """The workflow with this id, or the one with this name. Raises `Refused`."""
    listed = client.pages("/workflows", WORKFLOWS)
    found = [each for each in listed if each["id"] == wanted] or [
        each for each in listed if each["name"] == wanted
    ]
    if not found:
        raise Refused(f"There is no workflow {wanted}.")
    if len(found) > 1:
        ids = ", ".join(each["id"] for each in found)
        raise Refused(f"{len(found)} workflows are called {wanted}: name one by its id ({ids}).")
    return found[0]


def names_of(client: Api, workflow: str, wanted: Sequence[str]) -> list[str]:
    """The cases to run. Raises `Refused` where there are none: nothing tested is nothing passed."""
    there = [each["name"] for each in client.get(f"/workflows/{workflow}/cases")["items"]]
    missing = [name for name in wanted if name not in there]
    if missing:
        raise Refused(f"There is no case {', '.join(missing)}; there are: {', '.join(there) or 'none'}.")
    if not there:
        raise Refused("The workflow has no cases.")
    return [name for name in there if not wanted or name in wanted]


def judged(  # noqa: PLR0913  # Options of the command line, and a clock and a pause that tests replace.
    client: Api,
    workflow: str,
    names: Sequence[str],
    *,
    version: int | None,
    at_once: int,
    patience: float,
    seconds: Callable[[], float] = time.monotonic,
    pause: Callable[[float], None] = time.sleep,
) -> Iterator[Told]:
    """Each case as soon as it is over."""
    waiting, under_way, wait = deque(names), list[_UnderWay](), FIRST_PAUSE
    while waiting or under_way:
        over = list[Told]()
        while waiting and len(under_way) < at_once:
            begun = _begun(client, workflow, waiting.popleft(), version, seconds())
            if isinstance(begun, Told):
                over.append(begun)
            else:
                under_way.append(begun)
        for each in list(under_way):
            told = _looked_at(client, workflow, each, late=seconds() - each.since > patience)
            if told is not None:
                under_way.remove(each)
                over.append(told)
        yield from over
        wait = FIRST_PAUSE if over else min(2 * wait, LONGEST_PAUSE)
        if under_way:
            pause(wait)


def case_path(workflow: str, name: str) -> str:
    return f"/workflows/{workflow}/cases/{quote(name, safe='')}"


def _begun(client: Api, workflow: str, name: str, version: int | None, now: float) -> _UnderWay | Told:
    try:
        started = client.post(f"{case_path(workflow, name)}/runs", {"version": version})
    except Refused as refused:
        return Told(case=name, state="error", message=str(refused))
    return _UnderWay(name, started["run"], now)


def _looked_at(client: Api, workflow: str, each: _UnderWay, *, late: bool) -> Told | None:
    """What came of it; None while it goes on. One that is late is stopped."""
    try:
        verdict = client.get(f"{case_path(workflow, each.case)}/runs/{each.run}")
        if verdict["state"] == "running" and late:
            client.post(f"/runs/{each.run}/cancel", {"reason": "the test did not end in time"})
    except Refused as refused:
        return Told(case=each.case, state="error", run=each.run, message=str(refused))
    if verdict["state"] != "running":
        return Told(
            case=each.case,
            state=verdict["state"],
            run=each.run,
            took_s=verdict["took_s"],
            differences=tuple(verdict["differences"]),
        )
    message = "It did not end in time and was stopped."
    return Told(case=each.case, state="error", run=each.run, message=message) if late else None


def case_lines(told: Told) -> list[str]:
    """A case for people: what came of it and, below, everything that is not as expected."""
    run = f"  run {told.run}" if told.run and told.state != "passed" else ""
    lines = [f"{told.state:7} {told.case}  {told.took_s:.1f} s{run}"]
    lines += [f"        {plain(told.message)}"] if told.message else []
    return lines + [f"        {line}" for each in told.differences for line in difference_lines(each)]


def difference_lines(difference: Any) -> list[str]:
    """One expectation that does not hold: the step, and what was expected and came."""
    from contracts.codec import encode

    step = f"[{difference['step']}] " if difference["step"] else ""
    lines = [plain(f"{step}{difference['message']}")]
    if difference["expectation"].startswith("/conditions/"):
        return lines
    return lines + [plain(f"  {name:8} {encode(difference[name]).decode()}") for name in ("expected", "got")]


def summary(told: Sequence[Told]) -> str:
    counts = {state: sum(each.state == state for each in told) for state in ("passed", "failed", "error")}
    more = [
        f"{counts[state]} {word}" for state, word in (("failed", "failed"), ("error", "not run to the end"))
    ]
    return ", ".join([f"{counts['passed']} passed", *(each for each in more if not each.startswith("0 "))])
