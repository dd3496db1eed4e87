"""At what rate past deliveries are run again: spread over the minute, and never more than was asked for in any minute."""

import random
from collections.abc import Callable

import pytest

from deploy.operator.pacing import Pace


class Clockwork:
    """A clock that moves when somebody rests or works."""

    def __init__(self) -> None:
        self.seconds = 1_000.0
        self.starts: list[tuple[float, int]] = []
        """When what was started, at the end of each page."""

    def now(self) -> float:
        return self.seconds

    def rest(self, seconds: float) -> None:
        assert seconds > 0
        self.seconds += seconds

    def played(self, per_minute: int, pages: int, started: Callable[[int], int], takes: float) -> Pace:
        pace = Pace(per_minute, 50, now=self.now, rest=self.rest)
        for _ in range(pages):
            pace.begin()
            self.seconds += takes
            count = started(pace.page)
            pace.started(count)
            self.starts.append((self.seconds, count))
        return pace

    def busiest_minute(self) -> int:
        return max(
            sum(count for at, count in self.starts if begins <= at < begins + 60.0)
            for begins, _ in self.starts
        )

    @property
    def lasted(self) -> float:
        return self.seconds - 1_000.0


@pytest.mark.parametrize("per_minute", [1, 7, 59, 60, 61, 100, 150, 600, 2_999, 3_000, 100_000])
@pytest.mark.parametrize("takes", [0.0, 0.03, 0.9])
def test_in_no_minute_more_is_started_than_was_asked_for(per_minute: int, takes: float) -> None:
    clock, chance = Clockwork(), random.Random(f"{per_minute}/{takes}")
    clock.played(per_minute, 400, lambda most: chance.randint(0, most), takes)
    assert 0 < clock.busiest_minute() <= per_minute


@pytest.mark.parametrize("per_minute", [7, 60, 150, 600, 3_000])
def test_where_everything_starts_the_pace_is_what_was_asked_for(per_minute: int) -> None:
    clock = Clockwork()
    pace = clock.played(per_minute, 300, lambda most: most, 0.01)
    assert 0.95 * per_minute <= 300 * pace.page / (clock.lasted / 60) <= 1.01 * per_minute
    assert clock.busiest_minute() <= per_minute


def test_a_page_is_what_may_start_within_a_second_so_that_a_minute_has_no_burst() -> None:
    pages = {per_minute: Pace(per_minute, 50).page for per_minute in (1, 60, 119, 120, 600, 3_000, 10_000)}
    assert pages == {1: 1, 60: 1, 119: 1, 120: 2, 600: 10, 3_000: 50, 10_000: 50}


def test_what_starts_nothing_is_gone_through_without_a_rest() -> None:
    clock = Clockwork()
    clock.played(1, 500, lambda _most: 0, 0.01)
    assert clock.lasted == pytest.approx(5.0)
