"""What one org gets of another one's is found, and what is right is not."""

from msgspec import structs

from chassis.ports import Stored
from chassis.testing.examples import MOMENT, commit
from contracts.codec import encode
from contracts.runs import Parent, RunStarted
from tests.orchestrator.stories import STARTED, drawn
from tests.promises.evidence import Effect, Entry, Evidence, History
from tests.promises.orgs import each_org_is_alone
from tests.simulation.test_promises import well


def history(org: str, run: str, start: RunStarted = STARTED) -> History:
    body = encode(commit(start, org=org, run=run, version=1, time=MOMENT))
    return History(org, run, [Stored(subject=f"run.{org}.{run}", sequence=1, body=body)])


def found(evidence: Evidence, *histories: History) -> list[str]:
    return [each.what for each in each_org_is_alone(evidence, histories)]


def effect(org: str, run: str) -> Effect:
    return Effect(
        at=0, run=run, step="a", attempt=1, key="k", repeat="no", process="e1", result=None, org=org
    )


def entry(org: str, run: str) -> Entry:
    return Entry(at=0, trigger="t", key="k", result="accepted", status=202, run=run, org=org)


PLAN = drawn("a")
EVIDENCE = structs.replace(
    well(),
    plans={STARTED.plan: PLAN},
    effects=[effect("org", "ours")],
    ledger=[entry("org", "ours"), entry("neighbours", "theirs")],
)
OURS, THEIRS = (
    history("org", "ours"),
    history("neighbours", "theirs", structs.replace(STARTED, plan="ef" * 32)),
)


def test_two_orgs_with_the_same_are_well() -> None:
    assert found(EVIDENCE, OURS, THEIRS) == []


def test_a_run_that_two_orgs_have_is_found() -> None:
    same = history("neighbours", "ours", structs.replace(STARTED, plan="ef" * 32))
    assert found(EVIDENCE, OURS, THEIRS, same) == ["it is a run of ['neighbours', 'org']"]


def test_a_run_that_follows_another_orgs_plan_is_found() -> None:
    follows = history("neighbours", "theirs")
    assert found(EVIDENCE, OURS, follows) == ["a run of neighbours follows a plan of org"]


def test_a_call_an_answer_and_a_child_of_the_wrong_org_are_found() -> None:
    wrong = structs.replace(EVIDENCE, effects=[effect("neighbours", "ours")])
    assert found(wrong, OURS, THEIRS) == ["the call of a is of neighbours, the run of ['org']"]
    wrong = structs.replace(EVIDENCE, ledger=[entry("org", "theirs")])
    assert found(wrong, OURS, THEIRS) == ["the answer of t is of org, the run of ['neighbours']"]
    born = structs.replace(STARTED, parent=Parent(run="theirs", step="call"))
    assert found(EVIDENCE, history("org", "ours", born), THEIRS) == [
        "its parent is of org, the run of ['neighbours']"
    ]
