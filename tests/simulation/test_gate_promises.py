"""What is wrong at gates is found, and what is right is not."""

from datetime import timedelta

from msgspec import structs

from chassis.ids import derived, digest
from chassis.ports import Stored
from chassis.testing.examples import MOMENT, commit, domain_commit
from contracts.codec import encode
from contracts.commits import FIRST_HASH
from contracts.gates import (
    ALL_RUNS,
    GateCommit,
    GateEvent,
    GateLimit,
    GateState,
    OrgLimit,
    OrgLimits,
    SlotFreed,
    SlotGranted,
    SlotWanted,
)
from contracts.runs import RunCompleted, RunEvent, RunReopened, SlotTaken, WaitOpened
from contracts.subjects import domain
from contracts.workflows import OrgLimitsSet
from orchestrator.gates import evolve
from tests.orchestrator.stories import STARTED, scheduled
from tests.promises.evidence import Evidence, History
from tests.promises.gates import gates_are_kept, never_too_many_are_inside
from tests.simulation.test_promises import well

SLOT = SlotWanted(gate="gate", name="crm", bounds=GateLimit(at_once=1))
STANDS = WaitOpened(wait="slot:1:1", kind="slot", slot=SLOT)
TAKEN = SlotTaken(wait="slot:1:1", gate="gate")


def history(run: str, *commits: tuple[float, tuple[RunEvent, ...]]) -> History:
    stored = [
        Stored(
            subject=f"run.org.{run}",
            sequence=int(1_000 * seconds) + number,
            body=encode(commit(*events, org="org", run=run, version=number, time=MOMENT)),
            time=seconds,
        )
        for number, (seconds, events) in enumerate(commits, 1)
    ]
    return History("org", run, stored)


def inside(run: str, since: float, until: float) -> History:
    return history(run, (0, (STARTED, STANDS)), (since, (TAKEN, scheduled("a"))), (until, (RunCompleted(),)))


def gate(*events: GateEvent, lies: bool = False) -> list[Stored]:
    found, state, before = list[Stored](), GateState(), FIRST_HASH
    for number, event in enumerate(events, 1):
        at = MOMENT + timedelta(seconds=number)
        state = evolve(state, event, at)
        body = encode(
            GateCommit(
                id=f"c{number}",
                org="org",
                gate="gate",
                version=number,
                events=(event,),
                state=GateState() if lies else state,
                time=at,
                actor="system",
                engine_version="0.1.0",
                prev_hash=before,
            )
        )
        found.append(Stored(subject="gate.org.gate", sequence=number, body=body))
        before = digest(body)
    return found


A, A_LEFT = SlotGranted(run="a", grant=1), SlotFreed(run="a", grant=1)
B = SlotGranted(run="b", grant=2)


def found_in(stored: list[Stored], *histories: History) -> list[str]:
    evidence: Evidence = structs.replace(well(), gates=stored)
    return [violation.what for violation in gates_are_kept(evidence, histories)]


def test_one_behind_the_other_is_well() -> None:
    assert found_in(gate(A, A_LEFT, B), inside("a", 1, 5), inside("b", 6, 9)) == []


def test_one_behind_the_other_is_well_also_when_the_clock_of_the_first_was_ahead() -> None:
    told = inside("a", 1, 5)
    stored = [structs.replace(each, time=each.time + 3_600) for each in told.stored]
    ahead = History("org", "a", stored)
    assert found_in(gate(A, A_LEFT, B), ahead, inside("b", 6, 9)) == []


def test_two_at_once_where_one_may_be_are_found() -> None:
    [what] = found_in(gate(A, A_LEFT, B), inside("a", 1, 5), inside("b", 4, 9))
    assert "2 were inside at once" in what


def test_a_run_that_was_never_let_in_is_found() -> None:
    [what] = found_in(gate(A), inside("b", 1, 5))
    assert "never let it in" in what


def test_a_place_of_an_earlier_opening_is_no_place() -> None:
    again = history(
        "a",
        (0, (STARTED, STANDS)),
        (1, (RunReopened(by="key:1", steps=()), STANDS)),
        (2, (TAKEN,)),
    )
    [what] = found_in(gate(A), again)
    assert "never let it in" in what


def test_a_step_that_begins_at_the_gate_is_found() -> None:
    [what] = found_in(gate(), history("a", (0, (STARTED, STANDS, scheduled("a")))))
    assert "step a began at a gate" in what


def test_a_trial_that_takes_a_place_is_found() -> None:
    trial = structs.replace(STARTED, mode="test")
    tried = history("a", (0, (trial, STANDS)), (1, (TAKEN,)), (2, (RunCompleted(),)))
    assert found_in(gate(A), tried) == ["it is a trial, and takes a place at a gate"]


def test_a_run_that_is_let_in_twice_and_a_commit_that_lies_are_found() -> None:
    assert any("twice" in what for what in found_in(gate(A, A)))
    assert any("another state" in what for what in found_in(gate(A, lies=True)))
    assert any("version 2 stands" in what for what in found_in(gate(A, A_LEFT)[1:]))


# --- What an org says of a gate that its workflows share ------------------------------------------

SHARED = derived("gate", "org", "", "crm", "")


def shared(run: str, since: float, until: float, at_once: int = 1) -> History:
    stands = structs.replace(
        STANDS, slot=structs.replace(SLOT, gate=SHARED, bounds=GateLimit(at_once=at_once))
    )
    taken = structs.replace(TAKEN, gate=SHARED)
    return history(run, (0, (STARTED, stands)), (since, (taken,)), (until, (RunCompleted(),)))


def says(*limits: tuple[float, OrgLimits]) -> list[Stored]:
    return [
        Stored(
            subject=domain("org", "org", "org"),
            sequence=number,
            time=since,
            body=encode(domain_commit("org", "org", OrgLimitsSet(limits=said), org="org", version=number)),
        )
        for number, (since, said) in enumerate(limits, 1)
    ]


def found_at(moments: tuple[float, float], said: list[Stored], *histories: History) -> list[str]:
    """Two are let in, at these moments."""
    granted = [
        structs.replace(stored, subject=f"gate.org.{SHARED}", time=at)
        for stored, at in zip(gate(A, B), moments, strict=True)
    ]
    evidence = structs.replace(well(), gates=granted, triggers=said)
    return [violation.what for violation in gates_are_kept(evidence, histories)]


def test_what_the_org_says_counts_instead_of_what_the_workflow_says() -> None:
    both = shared("a", 101, 205), shared("b", 201, 209)
    two = says((50, {"crm": OrgLimit(at_once=2)}))
    assert found_at((100, 200), two, *both) == []
    assert any("2 were inside at once" in what for what in found_at((100, 200), [], *both))
    other = says((50, {"mail": OrgLimit(at_once=2)}))
    assert any("the org says 1" in what for what in found_at((100, 200), other, *both))


def among_all(run: str, since: float, until: float) -> History:
    slot = structs.replace(SLOT, name=ALL_RUNS, key="", gate=derived("gate", "org", ALL_RUNS, ALL_RUNS, ""))
    taken = structs.replace(TAKEN, gate=slot.gate)
    return history(
        run, (0, (STARTED, structs.replace(STANDS, slot=slot))), (since, (taken,)), (until, (RunCompleted(),))
    )


def test_of_all_its_runs_an_org_alone_says_how_many_may_be_inside() -> None:
    both = among_all("a", 101, 205), among_all("b", 201, 209)

    def found(*limits: tuple[float, OrgLimits]) -> list[str]:
        evidence = structs.replace(well(), gates=[], triggers=says(*limits))
        return [violation.what for violation in never_too_many_are_inside(evidence, both)]

    assert any("2 were inside at once" in what for what in found((50, {ALL_RUNS: OrgLimit(at_once=1)})))
    assert found((50, {ALL_RUNS: OrgLimit(at_once=1)}), (150, {})) == []
    assert found((50, {ALL_RUNS: OrgLimit(at_once=2)})) == []


def test_workflows_that_share_a_gate_may_say_different_numbers() -> None:
    less = says((50, {"crm": OrgLimit(at_once=1)}), (90, {"crm": OrgLimit()}))
    both = shared("a", 101, 205, at_once=2), shared("b", 201, 209)
    assert found_at((100, 200), less, *both) == []
    assert any(
        "the org says 1" in what for what in found_at((100, 200), less, shared("a", 101, 205), both[1])
    )


def test_who_is_let_in_after_the_org_has_said_less_is_found() -> None:
    both = shared("a", 101, 205), shared("b", 201, 209)
    lowered = says((50, {"crm": OrgLimit(at_once=2)}), (150, {}))
    [what] = found_at((100, 200), lowered, *both)
    assert what.endswith("let in as number 2; the org says 1")
    assert found_at((100, 155), lowered, *both) == [], "who decided had read it just before"
    assert found_at((100, 120), lowered, *both) == [], "who is inside stays inside"
