"""Which run asks: only we can say it, for one org and for some minutes."""

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chassis.chains import Asking, Chains
from chassis.secret import Secret
from contracts.limits import CAUSE_HEADER_CHARS, CAUSE_SECONDS, CAUSES_DEEP

NOON = datetime(2026, 11, 20, 12, 0, tzinfo=UTC)
KEY = Secret(b"k" * 32)


class At:
    """A clock that shows one moment."""

    def __init__(self, seconds: float = 0.0) -> None:
        self._at = NOON + timedelta(seconds=seconds)

    def now(self) -> datetime:
        return self._at

    def seconds(self) -> float:
        return 0.0


CHAINS = Chains(KEY, At())
SAID = CHAINS.said("acme", "run-1", 2, ("flow", "other"))


def test_what_was_said_is_known_again() -> None:
    assert CHAINS.asking(SAID, "acme") == Asking("acme", "run-1", NOON.timestamp(), 2, ("flow", "other"))


def test_nobody_says_it_without_the_key() -> None:
    assert Chains(Secret(b"o" * 32), At()).asking(SAID, "acme") is None
    named, _, proof = SAID.partition(".")
    others = CHAINS.said("acme", "run-2", 2, ("flow", "other")).partition(".")
    assert CHAINS.asking(f"{others[0]}.{proof}", "acme") is None
    assert CHAINS.asking(f"{named}.{'A' * 43}", "acme") is None


def test_it_is_good_for_its_own_org_only() -> None:
    assert CHAINS.asking(SAID, "other") is None


@pytest.mark.parametrize(
    ("seconds", "is_good"),
    [
        (CAUSE_SECONDS, True),
        (CAUSE_SECONDS + 1, False),
        (-CAUSE_SECONDS, True),
        (-CAUSE_SECONDS - 1, False),
    ],
)
def test_it_is_good_for_some_minutes_by_clocks_that_differ_a_little(seconds: float, is_good: bool) -> None:
    assert (Chains(KEY, At(seconds)).asking(SAID, "acme") is not None) == is_good


def test_the_longest_chain_has_room_and_whatever_is_longer_is_not_even_looked_at() -> None:
    longest = CHAINS.said("o" * 63, "r" * 64, 2**53 - 1, ("w" * 64,) * CAUSES_DEEP)
    assert len(longest) <= CAUSE_HEADER_CHARS
    assert CHAINS.asking(longest, "o" * 63) is not None
    beyond = CHAINS.said("acme", "r", 1, ("w" * 64,) * 100)
    assert len(beyond) > CAUSE_HEADER_CHARS
    assert CHAINS.asking(beyond, "acme") is None


@pytest.mark.parametrize(("depth", "chain"), [(0, ("flow",)), (1, ()), (1, ("a b",)), (1, ("w",) * 17)])
def test_what_no_run_stands_behind_is_nothing_even_with_a_proof(depth: int, chain: tuple[str, ...]) -> None:
    assert CHAINS.asking(CHAINS.said("acme", "run-1", depth, chain), "acme") is None


@given(st.text(max_size=100))
def test_any_text_may_stand_there(text: str) -> None:
    assert CHAINS.asking(text, "acme") is None
    assert CHAINS.asking(f"{text}.{'A' * 43}", "acme") is None
    assert CHAINS.asking(f"{SAID}{text}", "acme") is None or not text


@given(st.integers(0, 300), st.integers(1, 255))
def test_one_letter_changed_is_nothing(at: int, by: int) -> None:
    at %= len(SAID)
    changed = SAID[:at] + chr((ord(SAID[at]) + by) % 256) + SAID[at + 1 :]
    assert changed == SAID or CHAINS.asking(changed, "acme") is None
