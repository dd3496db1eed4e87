"""Schedules under the storm keep their promises, and the checker of these proves itself by planted violations."""

from collections.abc import Callable, Iterator, Sequence
from datetime import timedelta
from functools import cache
from typing import Any

import pytest
from msgspec import structs

import orchestrator.schedules
from chassis.ids import digest
from chassis.ports import Proposal, Stored
from chassis.testing.stores import MemoryLog
from chassis.testing.world import CALM, START
from contracts.codec import decode_domain_commit, decode_schedule_commit, encode
from contracts.commits import FIRST_HASH
from contracts.messages import Answer, StartRun
from contracts.schedules import (
    Cron,
    FirePlanned,
    FireStarted,
    Schedule,
    ScheduleCommit,
    ScheduleFired,
    ScheduleMissed,
)
from contracts.triggers import Webhook
from orchestrator.alarms import Alarms
from orchestrator.fires import FIRES
from orchestrator.firing import evolve
from orchestrator.schedules import Schedules
from tests.orchestrator.stories import action, control, drawn
from tests.promises.checker import check
from tests.promises.evidence import Evidence
from tests.simulation.clocks import MemoryOverdue, Timed, clocks
from tests.simulation.installation import Installation
from tests.simulation.schedule import STORM, lived, quiet
from tests.simulation.workflows import Drawn, Story, story

SEEDS = 60
"""Within so many stories every saboteur has given himself away."""
SECOND = timedelta(seconds=1)


def told(*timed: Timed) -> Story:
    plan = drawn(
        "a>r",
        action("a", type="call.once", repeat="no", config={}, timeout_s=4),
        control("r", "set", {"fields": {}}),
    )
    return Story(
        workflows=[Drawn(trigger="trigger0", token="t" * 22, webhook=Webhook(), plan=plan)],
        deliveries=[],
        cancels=0,
        retries=0,
        retries_later=0,
        broken_code=False,
        clocks=timed,
    )


def every(seconds: int, edits: float = 0.0, **more: Any) -> Timed:
    schedule = Schedule(when=Cron(expression=f"*/{seconds} * * * * *"), **more)
    return Timed(trigger="clock0", schedule=schedule, edits=edits)


@cache
def well() -> Evidence:
    """What is left of a schedule of every two seconds, in which nothing went wrong."""
    with quiet():
        played, evidence = lived(Installation(1, told(every(2)), CALM))
    assert played.violations == []
    fires = [
        event
        for commit in commits_of(evidence)
        for event in commit.events
        if isinstance(event, ScheduleFired)
    ]
    assert len(fires) > 5
    return evidence


def commits_of(evidence: Evidence) -> list[ScheduleCommit]:
    return [decode_schedule_commit(stored.body) for stored in evidence.fires]


def found_in(evidence: Evidence) -> set[str]:
    return {violation.promise for violation in check(evidence)}


def rewritten(change: Callable[[list[ScheduleCommit]], Sequence[ScheduleCommit]]) -> Evidence:
    """The evidence with other commits of its schedule, chained and numbered well: a consistent rewrite."""
    changed = change(commits_of(well()))
    stored, before, state = list[Stored](), FIRST_HASH, changed[0].state.__class__()
    for number, commit in enumerate(changed, 1):
        for event in commit.events:
            state = evolve(state, event)
        body = encode(structs.replace(commit, version=number, prev_hash=before, state=state))
        stored.append(Stored(well().fires[0].subject, number, body))
        before = digest(body)
    return structs.replace(well(), fires=stored)


def with_events(
    commits: list[ScheduleCommit], place: int, change: Callable[[Any], Sequence[Any]]
) -> list[ScheduleCommit]:
    """The commits, with every event of the one at `place` (counted among those that fire) changed."""
    firing = [
        number
        for number, commit in enumerate(commits)
        if any(isinstance(e, ScheduleFired) for e in commit.events)
    ]
    number = firing[place]
    events = tuple(new for event in commits[number].events for new in change(event))
    return [*commits[:number], structs.replace(commits[number], events=events), *commits[number + 1 :]]


def test_what_went_well_is_found_well() -> None:
    assert check(well()) == []
    assert check(rewritten(lambda commits: commits)) == []


def test_a_planned_time_that_was_passed_by_is_found() -> None:
    def lost(commits: list[ScheduleCommit]) -> Sequence[ScheduleCommit]:
        runs = [e.run for c in commits for e in c.events if isinstance(e, ScheduleFired)]
        kept = [[e for e in c.events if getattr(e, "run", "") != runs[2]] for c in commits]
        return [
            structs.replace(c, events=tuple(events))
            for c, events in zip(commits, kept, strict=True)
            if events
        ]

    assert "P2" in found_in(rewritten(lost))


def test_a_planned_time_that_was_fired_again_is_found() -> None:
    assert "P2" in found_in(rewritten(lambda commits: [*commits[:3], commits[1], *commits[3:]]))


def test_a_fire_before_its_time_is_found() -> None:
    early = rewritten(lambda commits: [structs.replace(c, time=c.time - 3 * SECOND) for c in commits])
    assert "P2" in found_in(early)


def test_a_fire_that_nobody_planned_is_found() -> None:
    def moved(event: Any) -> Sequence[Any]:
        if isinstance(event, ScheduleFired):
            return [structs.replace(event, planned=event.planned - SECOND)]
        return [event]

    assert "P2" in found_in(rewritten(lambda commits: with_events(commits, 1, moved)))


def test_a_missed_time_that_was_none_and_one_made_up_for_against_the_policy_are_found() -> None:
    def missed(event: Any, made_up: int, count: int) -> Sequence[Any]:
        if isinstance(event, ScheduleFired):
            span = ScheduleMissed(
                first=event.planned, last=event.planned, count=count, policy="skip", made_up=made_up
            )
            return [span, structs.replace(event, made_up=True)]
        return [event]

    for made_up, count in ((1, 1), (0, 2)):
        changed = rewritten(
            lambda commits, m=made_up, n=count: with_events(commits, 1, lambda e: missed(e, m, n))
        )
        assert "P2" in found_in(changed)


def test_a_fire_without_an_outcome_or_without_a_run_is_found() -> None:
    def silent(commits: list[ScheduleCommit]) -> Sequence[ScheduleCommit]:
        return [c for c in commits if not (isinstance(c.events[0], FireStarted) and c is not commits[2])]

    assert {"P2", "P3"} & found_in(rewritten(silent))
    no_runs = structs.replace(well(), messages=[], ledger=[])
    assert "P1" in found_in(no_runs)


def test_a_run_that_no_schedule_has_decided_is_found() -> None:
    assert "P2" in found_in(structs.replace(well(), fires=[]))


def test_a_schedule_that_nobody_looked_at_to_its_end_is_found() -> None:
    cut = rewritten(
        lambda commits: [c for c in commits[:-1] if not isinstance(c.events[-1], FirePlanned)] or commits
    )
    assert found_in(cut)
    assert "P3" in found_in(structs.replace(well(), fires=well().fires[:-1]))


def test_a_schedule_that_nobody_ever_looked_at_is_found_also_when_it_had_no_planned_time() -> None:
    [made, *_] = [stored for stored in well().triggers if stored.subject.endswith(".trigger.clock0")]
    commit = decode_domain_commit(made.body, "trigger")
    unbound = encode(structs.replace(commit, events=commit.events[:1]))
    for triggers in (well().triggers, [structs.replace(made, body=unbound)]):
        never = check(structs.replace(well(), triggers=triggers, fires=[]))
        assert "clock0: nobody ever looked" in {violation.what for violation in never}


def test_a_state_that_does_not_follow_from_the_events_is_found() -> None:
    last = decode_schedule_commit(well().fires[-1].body)
    lying = encode(structs.replace(last, state=structs.replace(last.state, decided=START)))
    assert "P4" in found_in(
        structs.replace(well(), fires=[*well().fires[:-1], structs.replace(well().fires[-1], body=lying)])
    )
    assert "P4" in found_in(structs.replace(well(), fires=well().fires[1:]))


# --- Under the storm -----------------------------------------------------------------------------


def stormy(seeds: int) -> Iterator[tuple[int, Installation, list[Any]]]:
    for seed in range(seeds):
        policy: Any = ("skip", "once", "all")[seed % 3]
        timed = (
            every(2, 0.2, missed=policy, late_s=3)
            if policy != "all"
            else every(3, 0.2, missed="once", late_s=1)
        )
        installation = Installation(seed, told(timed), STORM)
        played, _ = lived(installation)
        yield seed, installation, list(played.violations)


def test_schedules_keep_their_promises_under_the_storm() -> None:
    fired = missed = lost_races = 0
    with quiet():
        for seed, installation, violations in stormy(150):
            assert violations == [], f"seed {seed}"
            commits = [decode_schedule_commit(stored.body) for stored in installation.fires.messages]
            events = [event for commit in commits for event in commit.events]
            fired += sum(isinstance(event, ScheduleFired) for event in events)
            missed += sum(isinstance(event, ScheduleMissed) for event in events)
            lost_races += installation.fires.conflicts
    assert fired > 300
    assert missed > 10
    assert lost_races > 10


def test_some_stories_of_the_soak_have_schedules() -> None:
    with_clocks = [seed for seed in range(1_000) if clocks(seed)]
    assert 30 < len(with_clocks) < 120
    assert 5 < sum(any(each.polls for each in clocks(seed)) for seed in with_clocks) < 40
    assert all(story(seed).clocks == clocks(seed) for seed in with_clocks)


def started_whatever_was_said(monkeypatch: pytest.MonkeyPatch) -> None:
    """Says that a run has started without having been told so."""

    async def lies(_self: Any, message: Any) -> Answer:
        return Answer(run=message.run, result="accepted")

    class Lying:
        send = lies

    monkeypatch.setattr(Schedules, "_sender", Lying(), raising=False)
    whole = Schedules.__init__

    def made(self: Schedules, **more: Any) -> None:
        whole(self, **more | {"sender": Lying()})

    monkeypatch.setattr(Schedules, "__init__", made)


def run_of_the_moment(monkeypatch: pytest.MonkeyPatch) -> None:
    """Names a run anew each time that it is asked for."""
    numbers = iter(range(10**6))
    whole = orchestrator.schedules._start_of

    def named(*given: Any) -> StartRun:
        start = whole(*given)
        return structs.replace(start, run=f"{start.run[:20]}-{next(numbers)}")

    monkeypatch.setattr(orchestrator.schedules, "_start_of", named)


def no_fence(monkeypatch: pytest.MonkeyPatch) -> None:
    """Appends whatever others have decided meanwhile."""
    whole = MemoryLog._place

    def placed(self: MemoryLog, proposal: Proposal) -> int | None:
        if proposal.subject.startswith("sched."):
            before = self.subjects().get(proposal.subject, ())
            proposal = structs.replace(proposal, expected=before[-1].sequence if before else 0)
        return whole(self, proposal)

    monkeypatch.setattr(MemoryLog, "_place", placed)


def forgets_what_is_pending(monkeypatch: pytest.MonkeyPatch) -> None:
    """After a crash between decision and start nobody asks for the run."""

    def forgotten(body: bytes) -> ScheduleCommit:
        commit = decode_schedule_commit(body)
        return structs.replace(commit, state=structs.replace(commit.state, pending=()))

    monkeypatch.setattr(orchestrator.schedules, "FIRES", structs.replace(FIRES, decode=forgotten))


def nobody_makes_sure(monkeypatch: pytest.MonkeyPatch) -> None:
    """No wake-up is armed, and nobody looks for what is overdue."""

    async def nothing(*_: Any, **__: Any) -> list[Any]:
        return []

    monkeypatch.setattr(Schedules, "_wake", nothing)
    monkeypatch.setattr(Alarms, "set", lambda *_: None)
    monkeypatch.setattr(MemoryOverdue, "due", nothing)


SABOTEURS = (
    started_whatever_was_said,
    run_of_the_moment,
    no_fence,
    forgets_what_is_pending,
    nobody_makes_sure,
)


@pytest.mark.parametrize("saboteur", SABOTEURS, ids=[each.__name__ for each in SABOTEURS])
def test_a_saboteur_gives_himself_away(
    saboteur: Callable[[pytest.MonkeyPatch], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    saboteur(monkeypatch)
    with quiet():
        assert any(violations for _, _, violations in stormy(SEEDS))
