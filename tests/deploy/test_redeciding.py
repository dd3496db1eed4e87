"""How the command line is told since when the past shall be decided again."""

from datetime import UTC, datetime, timedelta

import pytest

from deploy.operator.redeciding import since
from deploy.refusals import Refused

NOW = datetime(2026, 11, 21, 12, tzinfo=UTC)


@pytest.mark.parametrize(
    ("text", "moment"),
    [
        ("90s", NOW - timedelta(seconds=90)),
        ("36h", NOW - timedelta(hours=36)),
        ("7d", NOW - timedelta(days=7)),
        ("2026-11-20", datetime(2026, 11, 20, tzinfo=UTC)),
        ("2026-11-20T12:00:00+01:00", datetime(2026, 11, 20, 11, tzinfo=UTC)),
        ("beginning", datetime(1970, 1, 1, tzinfo=UTC)),
    ],
)
def test_a_moment_is_a_date_a_time_or_so_long_ago(text: str, moment: datetime) -> None:
    assert since(text, NOW) == moment


@pytest.mark.parametrize("text", ["", "d", "-1d", "yesterday", "7 d", "99999999999d", "2026-13-01", "1e9d"])
def test_what_is_no_moment_is_refused_in_one_line(text: str) -> None:
    with pytest.raises(Refused, match="is no moment"):
        since(text, NOW)


def test_a_time_ago_that_is_longer_than_anything_is_very_long_ago() -> None:
    assert since("999999w", NOW) < NOW - timedelta(days=365 * 40)
