"""A running gateway for each test."""

from collections.abc import AsyncIterator

import pytest

from tests.gateway.fakes import Office, open_office


@pytest.fixture
async def office() -> AsyncIterator[Office]:
    async with open_office() as opened:
        yield opened
