"""How a run began is asked for again when the archive was away: what nobody could say is not remembered as nothing."""

from collections.abc import Mapping, Sequence

import pytest

from chassis.ports import Away, Stored
from chassis.testing.examples import MOMENT, commit
from contracts.codec import encode
from projections.origins import Origins
from tests.orchestrator.stories import STARTED

KEY = ("org", "run-1")


class NothingInTheLog:
    async def first(self, subjects: Sequence[str]) -> Mapping[str, Stored]:
        return {}


async def test_an_archive_that_is_away_is_asked_again() -> None:
    answers: list[bytes | None] = [None, encode(commit(STARTED, org="org", run="run-1", time=MOMENT))]

    async def archived(_org: str, _run: str) -> bytes | None:
        answer = answers.pop(0)
        if answer is None:
            raise Away("the archive")
        return answer

    origins = Origins(NothingInTheLog(), archived)
    with pytest.raises(Away):
        await origins.of([KEY])
    found = (await origins.of([KEY]))[KEY]
    assert found is not None
    assert found.start == STARTED
    assert (await origins.of([KEY]))[KEY] == found, "now it is remembered"
