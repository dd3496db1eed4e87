"""What goes wrong when past deliveries run again is found, and what is right is not."""

from msgspec import structs

from chassis.ports import Stored
from chassis.testing.examples import MOMENT, commit
from contracts.codec import encode
from contracts.runs import Cause, RunStarted
from tests.orchestrator.stories import STARTED, value
from tests.promises.again import past_deliveries_run_again_once
from tests.promises.evidence import Again, History
from tests.simulation.test_promises import well

PAST = structs.replace(STARTED, receipt="one", cause=Cause(kind="webhook", id="one"))
BEGUN = structs.replace(STARTED, receipt="again-1", cause=Cause(kind="redelivery", id="one"))
MENDED = Again(org="org", run="mended", receipt="one", undertaking="mended")
NEW = Again(org="org", run="new", receipt="one", undertaking="new")


def history(run: str, start: RunStarted) -> History:
    body = encode(commit(start, org="org", run=run, version=1, time=MOMENT))
    return History("org", run, [Stored(subject=f"run.org.{run}", sequence=1, body=body)])


def found(*told: Again, runs: dict[str, RunStarted]) -> list[str]:
    histories = [history(run, start) for run, start in runs.items()]
    evidence = structs.replace(well(), again=told)
    return [each.what for each in past_deliveries_run_again_once(evidence, histories)]


def test_each_undertaking_has_one_run_of_each_delivery() -> None:
    assert found(MENDED, MENDED, runs={"past": PAST, "mended": BEGUN}) == []
    later = structs.replace(BEGUN, receipt="again-2")
    assert found(MENDED, NEW, runs={"past": PAST, "mended": BEGUN, "new": later}) == []


def test_a_delivery_that_did_not_run_again_is_found() -> None:
    assert found(MENDED, runs={"past": PAST}) == ["one was to run again, and there is no such run"]
    itself = structs.replace(MENDED, run="past")
    assert found(itself, runs={"past": PAST}) == ["one has run again as itself"]


def test_who_was_refused_may_have_a_run_that_stands_still() -> None:
    refused = structs.replace(NEW, taken=False)
    later = structs.replace(BEGUN, receipt="again-2")
    assert found(refused, runs={"past": PAST}) == []
    assert found(MENDED, refused, runs={"past": PAST, "mended": BEGUN, "new": later}) == []


def test_a_delivery_that_ran_again_twice_is_found() -> None:
    later = structs.replace(BEGUN, receipt="again-2")
    [what] = found(MENDED, MENDED, runs={"past": PAST, "mended": BEGUN, "another": later})
    assert what == "one runs again 2 times, asked for by ['mended']"


def test_a_delivery_that_ran_again_with_something_else_is_found() -> None:
    other = structs.replace(BEGUN, input=value({"body": {"n": 2}}))
    [what] = found(MENDED, runs={"past": PAST, "mended": other})
    assert what == "what came with one is not what it runs with again"
