"""Workflows of a campaign that others start: runs, failures, the clock, ends of runs, what is found; and a worker outside."""

from typing import Any, Final

from tests.chaos.drawing import call, forked, row

SHOUT: Final = "work.shout"
"""The node type of sdk/worker.py."""
_CLOCKS: Final = (
    ("skipping", {"expression": "*/2 * * * * *", "missed": "skip", "late_s": 2}),
    ("made up for once", {"expression": "*/3 * * * * *", "missed": "once", "late_s": 3}),
    ("made up for", {"expression": "*/5 * * * * *", "missed": "all", "late_s": 5}),
)


def alarm(world: str) -> dict[str, Any]:
    """What is started when a run fails."""
    return row(call("tell", world, "PUT"))


def child(world: str, alarm_workflow: str) -> dict[str, Any]:
    """Every fifth fails; the others take long enough for somebody to change their mind."""
    check = {"id": "check", "type": "if", "config": {"condition": "trigger.body.n % 5 == 0"}}
    stop = {"id": "stop", "type": "stop", "config": {"message": "Not every fifth."}}
    pause = {"id": "pause", "type": "delay", "config": {"seconds": 1.5}}
    drawn = forked(
        check,
        stop,
        call("work", world, "PUT"),
        pause,
        call("end", world, "KEYED"),
        ways="check.true>stop check.false>work work>pause pause>end",
    )
    return drawn | {"on_failure": alarm_workflow}


def family(world: str, child_workflow: str) -> dict[str, Any]:
    """One child that nobody waits for, then one that somebody does."""
    calls = {"workflow": child_workflow, "input": {"n": "{{ trigger.body.n }}"}}
    return row(
        {"id": "tell", "type": "workflow.run", "config": calls | {"mode": "start"}},
        {"id": "call", "type": "workflow.run", "config": calls},
        call("after", world, "KEYED"),
    )


def outside(world: str) -> dict[str, Any]:
    """The worker says its run's name: what it says is what it did, and it must not be said twice."""
    shout = {
        "id": "shout",
        "type": SHOUT,
        "config": {"text": "{{ run.id }}", "seconds": 0.3},
        "timeout_s": 60,
    }
    return row(shout, call("then", world, "PUT"))


def followed(world: str) -> dict[str, Any]:
    """One call for whatever started it."""
    return row(call("heard", world, "KEYED", by="{{ trigger.received_at }}"))


def starters(world: str, child_workflow: str) -> list[dict[str, Any]]:
    """Triggers that nobody sends anything to; each is to start the workflow `followed`."""
    clocks = [
        {
            "name": name,
            "schedule": {
                "when": {"by": "cron", "expression": how["expression"]},
                "missed": how["missed"],
                "late_s": how["late_s"],
            },
        }
        for name, how in _CLOCKS
    ]
    outcomes = ["failed", "cancelled"]
    end = {"kind": "run_end", "workflows": [child_workflow], "outcomes": outcomes}
    return [*clocks, {"name": "ends", "on": end}, {"name": "found", "on": poll(world)}]


def poll(world: str) -> dict[str, Any]:
    """Looks at what the world has got since it looked last; the newest of then is seen again."""
    found = "steps.fetch.output.body.orders"
    return {
        "kind": "poll",
        "schedule": {"when": {"by": "cron", "expression": "*/2 * * * * *"}, "missed": "once", "late_s": 5},
        "request": {"url": f"{world}/feed/orders", "query": {"after": "{{ trigger.cursor }}"}},
        "items": found,
        "key": "entry.number",
        "cursor": f"size({found}) > 0 ? {found}[size({found}) - 1].number : trigger.cursor",
    }
