"""What a cluster campaign judges beside the promises: who may be refused, and that a full run is as long as it says."""

from typing import Any

import msgspec

from tests.chaos.cluster.__main__ import plans
from tests.chaos.cluster.faults import KINDS
from tests.chaos.cluster.refusals import ELECTION_SECONDS, RECOVERED_SECONDS, Struck, Told, misjudged

CUT = Struck(kind="majority", began=100.0, ended=110.0, healthy=112.0, majority_lost=True)


def told(what: str, began: float, ended: float, key: str = "key") -> Told:
    return Told(key=key, began=began, ended=ended, what=what)


def judged(*every: Told, **changes: Any) -> list[str]:
    return [each.promise for each in misjudged(every, [msgspec.structs.replace(CUT, **changes)])]


def test_without_a_majority_and_while_leaders_are_chosen_anybody_may_be_refused() -> None:
    assert judged(told("fail", 101, 104), told("fail", 109, 111), told("fail", 99, 101)) == []
    assert judged(told("fail", 112, 110 + ELECTION_SECONDS)) == []


def test_whoever_is_refused_at_another_time_is_found() -> None:
    assert judged(told("fail", 90, 99)) == ["P11"]
    late = 110 + ELECTION_SECONDS + 1
    assert judged(told("fail", late, late + 1)) == ["P11"]
    assert judged(told("fail", late, late + 1), healthy=late + 5) == []


def test_while_those_come_back_who_were_sent_away_anybody_may_be_refused() -> None:
    late = 110 + ELECTION_SECONDS + 1
    newcomer, crowd = told("fail", late, late + 1, "newcomer"), told("fail", 103, 104)
    assert judged(crowd, newcomer) == []
    assert judged(crowd, newcomer, told("dup", late, late + 2)) == []
    assert judged(crowd, told("ok", 111, 112), newcomer) == ["P11"]
    recovered = 110 + RECOVERED_SECONDS
    assert judged(crowd, told("fail", recovered, recovered + 1, "newcomer")) == ["P11"]


def test_what_was_accepted_without_a_majority_is_found() -> None:
    assert judged(told("ok", 103, 109)) == ["P1"]
    assert judged(told("ok", 103, 109), majority_lost=False) == []


def test_what_was_on_its_way_at_the_cut_or_answered_after_it_is_none() -> None:
    assert judged(told("ok", 100.2, 100.4), told("ok", 103, 110.5), told("dup", 103, 109)) == []


def test_ten_rounds_are_a_hundred_partitions_and_twenty_leader_kills() -> None:
    kinds = [kind for plan in plans("1", 10, 15.0) for kind in plan.kinds]
    assert sum(KINDS[kind].is_partition for kind in kinds) == 100
    assert kinds.count("leader_kill") == 20
    assert set(kinds) == set(KINDS)


def test_the_same_seed_gives_the_same_rounds() -> None:
    assert plans("1", 3, 15.0) == plans("1", 3, 15.0)
    assert plans("1", 3, 15.0) != plans("2", 3, 15.0)
