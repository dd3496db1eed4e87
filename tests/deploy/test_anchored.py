"""The chain of anchors: what was taken out, changed, signed by somebody else or put in another order is told."""

from collections.abc import Callable
from datetime import UTC, datetime

import pytest
from msgspec import structs

from chassis.ports import Stored
from deploy.operator.anchored import Chain, chain
from tests.deploy.sealed import KEY, OTHER, RUNS, body, heads, signed, three


def found(stored: list[Stored]) -> list[str]:
    return [finding.what for finding in chain(stored, [KEY.public]).findings]


def test_anchors_that_follow_one_another_are_all_well() -> None:
    whole = chain(three(), [KEY.public])
    assert whole.findings == []
    assert [mark.body.number for mark in whole.marks] == [1, 2, 3]
    assert whole.marks[0].interval == "before the first anchor (2026-11-21T12:01:00+00:00)"
    assert whole.marks[2].interval == (
        "between anchor 2 (2026-11-21T12:02:00+00:00) and anchor 3 (2026-11-21T12:03:00+00:00)"
    )
    assert whole.marks[1].begins == datetime(2026, 11, 21, 12, 1, tzinfo=UTC)


@pytest.mark.parametrize(
    ("forged", "told"),
    [
        (lambda a: a[1:], ["anchor 2 follows anchor 0: what was between them is gone"]),
        (lambda a: [a[0], a[2]], ["anchor 3 follows anchor 1: what was between them is gone"]),
        (lambda a: [a[0], a[0], *a[1:]], ["anchor 1 follows anchor 1: what was between them is gone"]),
        (lambda a: [a[0], as_(a[1], b"{}"), a[2]], None),
        (lambda a: [a[0], as_(a[1], a[1].body.replace(b"12:02", b"11:02")), a[2]], None),
        (lambda a: [a[0], as_(a[1], a[1].body.replace(b'"leaves":2', b'"leaves":3')), a[2]], None),
        (lambda a: [a[1], a[0], a[2]], None),
    ],
)
def test_anchors_that_were_taken_out_or_changed_are_told(
    forged: Callable[[list[Stored]], list[Stored]], told: list[str] | None
) -> None:
    said = found(forged(three()))
    assert said
    if told is not None:
        assert said[: len(told)] == told


def as_(stored: Stored, forged: bytes) -> Stored:
    return structs.replace(stored, body=forged)


def test_an_anchor_that_somebody_else_signed_is_told_whatever_key_it_names() -> None:
    first, second, third = three()
    forged = signed(body(2, heads(RUNS[:2]), first.body, after=10, through=20), OTHER)
    said = found([first, as_(second, forged), third])
    assert said[0] == "anchor 2 is not signed with the key that was given"
    assert chain([first, second, third], [OTHER.public]).marks == []


def test_two_keys_may_have_signed_when_both_are_given() -> None:
    first, *_ = three()
    theirs = structs.replace(
        body(2, heads(RUNS[:2]), first.body, after=10, through=20), key=OTHER.public.hex()
    )
    stored = [first, Stored(subject="anchor.1", sequence=4, body=signed(theirs, OTHER))]
    assert chain(stored, [KEY.public, OTHER.public]).findings == []
    assert [finding.what for finding in chain(stored, [KEY.public]).findings] == [
        "anchor 2 is not signed with the key that was given"
    ]


def test_an_interval_that_begins_elsewhere_than_the_one_before_it_ends_is_told() -> None:
    first, *_ = three()
    for after, epoch in ((11, 1), (9, 1), (3, 2)):
        next_one = signed(body(2, heads(RUNS[:2]), first.body, after=after, through=20, epoch=epoch))
        said = found([first, Stored(subject="anchor.1", sequence=4, body=next_one)])
        assert said == ["anchor 2 does not begin where the anchor before it ends"]


def test_a_commit_is_found_in_its_interval_and_in_no_other() -> None:
    whole: Chain = chain(three(), [KEY.public])
    numbers = [
        mark.body.number if (mark := whole.of_run(1, sequence)) is not None else None
        for sequence in (0, 1, 10, 11, 20, 30, 31)
    ]
    assert numbers == [None, 1, 1, 2, 2, 3, None]
    assert whole.of_run(2, 5) is None
    assert whole.of_run(0, 5) is None
    assert Chain(marks=(), findings=()).of_domain(1, 1) is None
