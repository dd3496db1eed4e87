"""What is heard of a connection that is lost: what it was used for, and nothing of its way back to the pool."""

from typing import Any, cast

import asyncpg
import pytest

from chassis.ports import Ambiguous
from chassis.postgres import Pool, connected


class Losing:
    """A pool whose connections are lost when they are given back."""

    def __init__(self) -> None:
        self.given_back = 0

    async def acquire(self, **_: Any) -> object:
        return object()

    async def release(self, _connection: object, **_: Any) -> None:
        self.given_back += 1
        raise asyncpg.ConnectionDoesNotExistError("connection was closed in the middle of operation")


async def test_what_was_done_is_done_though_its_connection_is_lost_on_the_way_back() -> None:
    pool = Losing()
    async with connected(cast("Pool", pool)):
        done = True
    assert (done, pool.given_back) == (True, 1)


async def test_why_a_connection_broke_in_use_is_told_and_not_that_it_could_not_be_given_back() -> None:
    with pytest.raises(Ambiguous, match="in the middle of a query"):
        async with connected(cast("Pool", Losing())):
            raise asyncpg.ConnectionDoesNotExistError("in the middle of a query")
