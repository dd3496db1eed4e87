"""What the orchestrator promises about pauses: they grow, they end, and they are no matter of chance."""

from hypothesis import given
from hypothesis import strategies as st

from contracts.errors import Failure
from contracts.limits import RETRY_SECONDS
from contracts.workflows import Retry
from orchestrator.retries import backoff, jitter, pause_before_retry

STEADY = Retry(attempts=5, first_pause_s=2, factor=3, longest_pause_s=100, jitter=0)
LOST = Failure(code="unreachable", message="", retryable=True)


def test_pauses_grow_by_the_factor_up_to_the_longest() -> None:
    assert [backoff(STEADY, tries, 0.5) for tries in range(1, 7)] == [2, 6, 18, 54, 100, 100]


def test_jitter_spreads_a_pause_both_ways_by_its_share() -> None:
    spread = Retry(first_pause_s=10, jitter=0.2)
    assert (backoff(spread, 1, 0.0), backoff(spread, 1, 0.5), backoff(spread, 1, 1.0)) == (8, 10, 12)


def test_jitter_is_a_function_of_run_step_and_attempt() -> None:
    assert jitter("r", "s", 1) == jitter("r", "s", 1)
    assert len({jitter("r", "s", 1), jitter("r", "s", 2), jitter("r", "t", 1), jitter("q", "s", 1)}) == 4


def test_jitter_stays_the_same_on_every_release() -> None:
    """Recorded histories hold moments made of it."""
    assert jitter("0d5b2c1e", "fetch", 1) == 0.6207728282756984


def test_jitter_looks_like_chance() -> None:
    shares = [jitter("run", "step", attempt) for attempt in range(1_000)]
    assert 0.45 < sum(shares) / len(shares) < 0.55
    assert all(0 <= share < 1 for share in shares)


@given(
    st.builds(
        Retry,
        attempts=st.integers(1, 20),
        first_pause_s=st.floats(0, RETRY_SECONDS),
        factor=st.floats(1, 10),
        longest_pause_s=st.floats(0, RETRY_SECONDS),
        jitter=st.floats(0, 1),
    ),
    st.integers(1, 1_000_000),
    st.floats(0, 1, exclude_max=True),
    st.none() | st.floats(0, 1e9),
)
def test_every_pause_is_bounded_and_the_retries_end(
    retry: Retry, tries: int, shift: float, retry_after_s: float | None
) -> None:
    pause = pause_before_retry(retry, LOST, tries=tries, shift=shift, retry_after_s=retry_after_s)
    if tries >= retry.attempts:
        assert pause is None
    else:
        assert pause is not None
        assert 0 <= pause <= RETRY_SECONDS


def test_what_cannot_be_mended_is_not_tried_again() -> None:
    fatal = Failure(code="refused", message="")
    assert pause_before_retry(STEADY, fatal, tries=1, shift=0, retry_after_s=10) is None


def test_the_longer_of_pause_and_retry_after_counts() -> None:
    assert pause_before_retry(STEADY, LOST, tries=1, shift=0.5, retry_after_s=30) == 30
    assert pause_before_retry(STEADY, LOST, tries=1, shift=0.5, retry_after_s=1) == 2
