"""What tests of an executor share."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from executor.sandbox.sandbox import Sandbox


@pytest.fixture(scope="session")
def engines(pytestconfig: pytest.Config) -> Path:
    """Where compiled engines are kept from one session to the next: their names say what they were made from."""
    assert pytestconfig.cache is not None
    return pytestconfig.cache.mkdir("engines")


@pytest.fixture(scope="session")
async def sandbox(engines: Path) -> AsyncIterator[Sandbox]:
    """Two at once, real engines."""
    async with Sandbox(engines, at_once=2) as box:
        yield box
