"""A schedule on a real installation: every second one run, whoever is killed, seen and stopped by its owner."""

import asyncio
import json
import os
import signal
import time
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from bench.workflows import echoes
from deploy.testing.installation import Installation
from tests.acceptance.waiting import until

SECOND = timedelta(seconds=1)


class Ticking:
    """A schedule of every second."""

    def __init__(self, installed: Installation, name: str, **more: Any) -> None:
        self.installed = installed
        workflow = installed.call("POST", "/workflows", {"name": name, "definition": echoes(1)})["id"]
        schedule = {"when": {"by": "cron", "expression": "* * * * * *"}, "body": '{"n":1}'} | more
        body = {"name": name, "workflow": workflow, "schedule": schedule}
        self.id = installed.call("POST", "/triggers", body)["id"]
        installed.call("POST", f"/workflows/{workflow}/versions/1/publish")

    def planned(self) -> list[datetime]:
        """The planned times of its runs, in the order in which they lie in the log."""
        query = "select cause_id from read.runs where trigger = $1 and cause = 'schedule' order by cause_id"
        rows = asyncio.run(self.installed.rows(query, self.id))
        return [datetime.fromisoformat(row["cause_id"]) for row in rows]

    def ran(self, count: int) -> bool:
        return len(self.planned()) >= count

    def view(self) -> Any:
        return self.installed.call("GET", f"/triggers/{self.id}")

    def is_told(self) -> bool:
        """It fires no more, and the read models have every run of it."""
        fires = self.view()["fires"]
        return fires["next"] is None and fires["fired"] == len(self.planned())

    def switch(self, verb: str) -> None:
        self.installed.call("POST", f"/triggers/{self.id}/{verb}")


def check_no_gap(planned: list[datetime]) -> None:
    assert planned == [planned[0] + number * SECOND for number in range(len(planned))]


@pytest.mark.parametrize("victim", ["orchestrator", "projections", "nats"])
def test_a_schedule_of_every_second_goes_on_when_its_process_is_killed(
    installed: Installation, victim: str
) -> None:
    ticking = Ticking(installed, f"killed {victim}")
    until(lambda: ticking.ran(3), "it ticks")
    for _ in range(3 if victim == "orchestrator" else 1):
        os.kill(installed.pids()[victim], signal.SIGKILL)
        ticked = len(ticking.planned())
        until(lambda ticked=ticked: ticking.ran(ticked + 4), f"it ticks on after {victim} was killed")  # type: ignore[misc]
    # Before it is disabled: what is due at that very moment and not decided yet is missed then, and told.
    assert ticking.view()["fires"]["missed"] == 0
    ticking.switch("disable")
    disabled = datetime.now(UTC)
    time.sleep(2)
    until(ticking.is_told, "all that fired is told")
    planned = ticking.planned()
    check_no_gap(planned)
    assert planned[-1] <= disabled, "disabled is disabled"
    assert ticking.view()["fires"]["refused"] == 0


def test_its_owner_sees_when_it_fired_and_when_it_will(installed: Installation) -> None:
    ticking = Ticking(installed, "seen")
    until(lambda: ticking.ran(3), "it ticks")
    until(lambda: ticking.view()["fires"]["last_result"] == "started", "the last fire is told")
    view = ticking.view()
    assert (view["kind"], view["webhook"]) == ("schedule", None)
    assert datetime.fromisoformat(view["fires"]["next"]) > datetime.fromisoformat(view["fires"]["last"])
    run = installed.call("GET", f"/runs/{view['fires']['last_run']}")
    assert run["trigger"] == ticking.id
    deliveries = installed.call("GET", f"/triggers/{ticking.id}/deliveries")["items"]
    assert {delivery["result"] for delivery in deliveries} == {"accepted"}
    preview = json.loads(deliveries[0]["preview"])
    assert preview["body"] == {"n": 1}
    assert preview["method"] == "SCHEDULE"
    assert len(installed.call("GET", f"/triggers/{ticking.id}/coming?count=5")["fires"]) == 5
    ticking.switch("disable")
    assert ticking.view()["fires"]["next"] is None


def test_an_edit_and_a_pause_count_at_once(installed: Installation) -> None:
    ticking = Ticking(installed, "edited")
    until(lambda: ticking.ran(2), "it ticks")
    yearly = {"when": {"by": "cron", "expression": "@yearly"}, "zone": "Europe/Berlin"}
    installed.call("PUT", f"/triggers/{ticking.id}", {"name": "edited", "schedule": yearly})
    edited = datetime.now(UTC)
    time.sleep(4)
    before = ticking.planned()
    assert before[-1] <= edited
    assert ticking.view()["fires"]["next"].endswith("-12-31T23:00:00Z")
    every = {"when": {"by": "interval", "seconds": 1}}
    installed.call("PUT", f"/triggers/{ticking.id}", {"name": "edited", "schedule": every})
    until(lambda: ticking.ran(len(before) + 3), "it ticks again")
    assert ticking.view()["fires"]["missed"] == 0
    ticking.switch("disable")


def alarm_for(installed: Installation, schedule: str) -> str:
    """A trigger that starts a workflow when this schedule has missed something."""
    workflow = installed.call("POST", "/workflows", {"name": "tells", "definition": echoes(1)})["id"]
    on = {
        "kind": "event",
        "types": ["schedule.missed"],
        "filter": f"trigger.body.aggregate_id == '{schedule}'",
    }
    alarm = installed.call("POST", "/triggers", {"name": "alarm", "workflow": workflow, "on": on})["id"]
    installed.call("POST", f"/workflows/{workflow}/versions/1/publish")
    return str(alarm)


def runs_of(installed: Installation, trigger: str) -> list[str]:
    rows = asyncio.run(installed.rows("select cause_id from read.runs where trigger = $1", trigger))
    return [row["cause_id"] for row in rows]


def test_what_was_missed_while_everybody_was_away_is_told_and_made_up_for_once(
    installed: Installation,
) -> None:
    ticking = Ticking(installed, "missed", missed="once", late_s=2)
    alarm = alarm_for(installed, ticking.id)
    until(lambda: ticking.ran(2), "it ticks")
    os.kill(installed.pids()["orchestrator"], signal.SIGSTOP)
    time.sleep(9)
    os.kill(installed.pids()["orchestrator"], signal.SIGCONT)
    before = len(ticking.planned())
    until(lambda: ticking.ran(before + 5), "it ticks on")
    ticking.switch("disable")
    until(lambda: ticking.view()["fires"]["missed"] >= 4, "the missed ones are told")

    def missed() -> list[Any]:
        return list(installed.call("GET", f"/triggers/{ticking.id}/deliveries?result=missed")["items"])

    assert any("1 made up for" in each["reason"] for each in missed())
    until(lambda: 0 < len(runs_of(installed, alarm)) == len(missed()), "somebody is told of each")


def test_nothing_was_refused_by_the_servers_rights(installed: Installation) -> None:
    for log in installed.data.rglob("*.log"):
        assert "ermissions violation" not in log.read_text(errors="replace"), log
