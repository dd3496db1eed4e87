"""Subjects hold one token per part, and every stream's subjects belong to it alone."""

import itertools

from hypothesis import given
from hypothesis import strategies as st

from contracts import subjects
from contracts.limits import PARTITIONS
from contracts.streams import STREAMS


def matches(pattern: str, subject: str) -> bool:
    wanted, given_ = pattern.split("."), subject.split(".")
    for token, word in itertools.zip_longest(wanted, given_):
        if token == ">":
            return word is not None
        if token is None or word is None or token not in ("*", word):
            return False
    return True


EVERY = {
    subjects.run("o", "r"): subjects.RUNS,
    subjects.domain("o", "workflow", "w"): subjects.DOMAIN,
    subjects.bundle(3): subjects.INBOX,
    subjects.inbox(3, "o", "r"): subjects.INBOX,
    subjects.timer("o", "r", "delay:pause[3].x"): subjects.INBOX,
    subjects.task("default", "o", "r", "node[3].inner", 2): subjects.TASKS,
    subjects.effect("o", "r", "node", 1): subjects.EFFECTS,
    subjects.hook("o", "t"): subjects.HOOKS,
    subjects.dead_letter("INBOX", "o", "r"): subjects.DLQ,
    subjects.anchor(1): subjects.ANCHORS,
}


def test_every_subject_lies_in_exactly_its_stream() -> None:
    for subject, home in EVERY.items():
        homes = [
            stream.name for stream in STREAMS if any(matches(pattern, subject) for pattern in stream.subjects)
        ]
        assert homes == [home], subject


def test_core_subjects_lie_in_no_stream() -> None:
    core = (
        subjects.call(0),
        subjects.cancel("o", "r"),
        subjects.reply("ingress", "i", 1),
        subjects.COMPILE,
        subjects.INSPECT,
    )
    for subject in core:
        assert not any(matches(pattern, subject) for stream in STREAMS for pattern in stream.subjects)


def test_an_owner_sees_its_own_partition_of_the_inbox_alone() -> None:
    for number in range(PARTITIONS):
        for other in range(PARTITIONS):
            assert matches(subjects.inbox_filter(number), subjects.inbox(other, "o", "r")) is (
                number == other
            )
            assert matches(subjects.inbox_filter(number), subjects.bundle(other)) is (number == other)


@given(st.text(min_size=1))
def test_a_token_is_one_token_whatever_it_names(text: str) -> None:
    try:
        token = subjects.token(text)
    except UnicodeEncodeError:
        return
    assert len(token) == 26
    assert token.isalnum()


@given(st.text(alphabet="abcdef0123456789-", min_size=1))
def test_a_run_has_one_partition(run: str) -> None:
    assert 0 <= subjects.partition(run) < PARTITIONS
