"""Groups that fail while they are cancelled are cancelled."""

import asyncio

import pytest

from chassis.ports import Away
from chassis.tasks import side_by_side


async def failing_when_cancelled(begun: asyncio.Event) -> None:
    begun.set()
    try:
        await asyncio.Event().wait()
    finally:
        raise Away("the store is gone, too")


async def test_a_cancellation_is_stronger_than_a_failure() -> None:
    begun = asyncio.Event()
    working = asyncio.create_task(side_by_side([failing_when_cancelled(begun)]))
    await begun.wait()
    working.cancel()
    with pytest.raises(asyncio.CancelledError):
        await working
    assert working.cancelled()


async def test_the_first_that_is_away_ends_the_others() -> None:
    async def away() -> None:
        raise Away("no answer")

    ended = asyncio.Event()

    async def waiting() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            ended.set()

    with pytest.raises(Away, match="no answer"):
        await side_by_side([waiting(), away()])
    assert ended.is_set()
    await side_by_side([])  # And nobody was cancelled.


async def test_what_is_no_outage_is_no_reason_to_try_again() -> None:
    async def broken() -> None:
        raise ValueError("a defect")

    with pytest.raises(ExceptionGroup) as raised:
        await side_by_side([broken()])
    assert [str(each) for each in raised.value.exceptions] == ["a defect"]
