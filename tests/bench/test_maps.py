"""When the row of maps says that a longer list costs its items more."""

import pytest
from msgspec import structs

from bench.maps import Mapped, check_growth
from bench.measure import Disagree

TENTH = Mapped(
    items=1_000,
    events=6_016,
    commits=21,
    bytes=1_200_000,
    largest_commit=90_000,
    answered_s=1.2,
    projected_s=1.5,
    orchestrator_us=270,
)


def test_a_list_of_ten_times_the_items_may_have_ten_times_the_bytes_and_a_fifth() -> None:
    check_growth(TENTH, structs.replace(TENTH, items=10_000, bytes=14_400_000))
    with pytest.raises(Disagree, match="1500 bytes of history per item of 10000, 1200 of 1000"):
        check_growth(TENTH, structs.replace(TENTH, items=10_000, bytes=15_000_000))


def test_the_line_of_a_map_says_what_the_page_of_figures_says() -> None:
    assert str(TENTH) == (
        "map of 1,000 items: 6,016 events in 21 commits, 1,200,000 bytes (1200 per item, the largest commit 90,000), "
        "answered after 1.2 s, in the read model after 1.5 s, 270 µs of the orchestrator per item"
    )
