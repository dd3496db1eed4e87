"""`automateos test`: cases run several at a time, each told as people and CI systems read it."""

from typing import Any
from xml.etree import ElementTree as ET

import pytest

from deploy.operator.api import Api
from deploy.operator.junit import report
from deploy.operator.testing import Told, case_lines, judged, names_of, summary, workflow_named
from deploy.refusals import Refused

DIFFERENCE = {
    "expectation": "/steps/total",
    "message": "The output of total is another one at /amount.",
    "step": "total",
    "pointer": "/amount",
    "expected": 12,
    "got": None,
}
CONDITION = {
    "expectation": "/conditions/0",
    "message": "run.output > 1: it does not hold.",
    "step": None,
    "pointer": "",
    "expected": None,
    "got": False,
}


class Installation(Api):
    """An API at which each case takes so many looks until it is over."""

    def __init__(self, **looks: int) -> None:
        super().__init__("http://nowhere", "key")
        self.left = looks
        self.under_way: set[str] = set()
        self.most = 0
        self.cancelled: list[str] = []
        self.verdicts: dict[str, dict[str, Any]] = {}
        self.named = [
            {"id": "w1", "name": "orders"},
            {"id": "w2", "name": "twice"},
            {"id": "w3", "name": "twice"},
        ]

    def pages(self, path: str, most: int, **query: str | None) -> list[Any]:
        return self.named

    def get(self, path: str, **query: str | int | None) -> Any:
        if path.endswith("/cases"):
            return {"items": [{"name": name} for name in self.left]}
        case = path.split("/")[4]
        self.left[case] -= 1
        if self.left[case] > 0:
            return {"state": "running"}
        self.under_way.discard(case)
        return {"state": "passed", "took_s": 0.25, "differences": []} | self.verdicts.get(case, {})

    def post(self, path: str, body: Any = None, **headers: str) -> Any:
        parts = path.split("/")
        if parts[1] == "runs":
            self.cancelled.append(parts[2])
            return {}
        if self.left[parts[4]] < 0:
            raise Refused("The workflow has faults. (invalid_workflow 422)")
        self.under_way.add(parts[4])
        self.most = max(self.most, len(self.under_way))
        return {"run": f"run-{parts[4]}"}


class Watch:
    """Time goes by only while somebody pauses."""

    def __init__(self) -> None:
        self.now = 0.0

    def seconds(self) -> float:
        return self.now

    def pause(self, seconds: float) -> None:
        self.now += seconds


def told(installation: Installation, *, at_once: int = 8, patience: float = 60.0) -> list[Told]:
    watch = Watch()
    return list(
        judged(
            installation,
            "w1",
            list(installation.left),
            version=None,
            at_once=at_once,
            patience=patience,
            seconds=watch.seconds,
            pause=watch.pause,
        )
    )


def test_cases_are_under_way_together_and_told_when_they_are_over() -> None:
    installation = Installation(slow=5, quick=1, third=2)
    assert [each.case for each in told(installation, at_once=2)] == ["quick", "third", "slow"]
    assert installation.most == 2


def test_a_case_that_cannot_be_run_hinders_no_other() -> None:
    first, second = told(Installation(broken=-1, good=1))
    assert (first.case, first.state, second.state) == ("broken", "error", "passed")
    assert "invalid_workflow" in first.message


def test_a_case_that_does_not_end_is_stopped() -> None:
    installation = Installation(forever=10_000, good=2)
    found = {each.case: each for each in told(installation, patience=5)}
    assert found["forever"].state == "error"
    assert "did not end in time" in found["forever"].message
    assert installation.cancelled == ["run-forever"]
    assert found["good"].state == "passed"


def test_pauses_grow_while_nothing_ends_so_that_few_calls_are_made() -> None:
    installation = Installation(forever=10_000)
    told(installation, patience=100)
    assert 10_000 - installation.left["forever"] < 60


def test_a_workflow_is_named_by_its_id_or_by_a_name_of_its_own() -> None:
    installation = Installation()
    assert workflow_named(installation, "w3")["id"] == "w3"
    assert workflow_named(installation, "orders")["id"] == "w1"
    with pytest.raises(Refused, match="2 workflows are called twice"):
        workflow_named(installation, "twice")
    with pytest.raises(Refused, match="There is no workflow x"):
        workflow_named(installation, "x")


def test_nothing_tested_is_nothing_passed() -> None:
    with pytest.raises(Refused, match="no cases"):
        names_of(Installation(), "w1", ())
    with pytest.raises(Refused, match="There is no case b; there are: a"):
        names_of(Installation(a=1), "w1", ("b",))
    assert names_of(Installation(a=1, b=1), "w1", ("b",)) == ["b"]


PASSED = Told(case="small", state="passed", run="r1", took_s=0.25)
FAILED = Told(case="big", state="failed", run="r2", took_s=1.5, differences=(DIFFERENCE, CONDITION))
BROKEN = Told(case="odd", state="error", message="It did not \x1b[31mend.", run="r3")


def test_people_read_the_step_and_the_difference() -> None:
    assert case_lines(PASSED) == ["passed  small  0.2 s"]
    assert case_lines(FAILED) == [
        "failed  big  1.5 s  run r2",
        "        [total] The output of total is another one at /amount.",
        "          expected 12",
        "          got      null",
        "        run.output > 1: it does not hold.",
    ]
    assert "\x1b" not in "".join(case_lines(BROKEN))
    assert summary([PASSED, FAILED, BROKEN]) == "1 passed, 1 failed, 1 not run to the end"
    assert summary([PASSED]) == "1 passed"


def test_a_report_is_what_ci_systems_read() -> None:
    root = ET.fromstring(report("orders <&> \x00 ü", [PASSED, FAILED, BROKEN]))
    [suite] = root
    assert (root.tag, suite.tag) == ("testsuites", "testsuite")
    for element in (root, suite):
        counts = [element.get(name) for name in ("tests", "failures", "errors", "skipped", "time")]
        assert counts == ["3", "1", "1", "0", "1.750"]
    assert suite.get("name") == "orders <&> \ufffd ü"
    passed, failed, broken = suite
    assert (passed.get("name"), passed.get("time"), list(passed)) == ("small", "0.250", [])
    [failure] = failed
    assert (failure.tag, failure.get("type")) == ("failure", "failed")
    assert failure.get("message") == "[total] The output of total is another one at /amount."
    assert "expected 12" in str(failure.text)
    assert "run r2" in str(failure.text)
    [error] = broken
    assert (error.tag, "\x1b" in str(error.get("message"))) == ("error", False)
