"""What tests of an executor share."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from executor.sandbox.sandbox import Sandbox


@pytest.fixture(scope="session")
async def sandbox(engines: Path) -> AsyncIterator[Sandbox]:
    """Two at once, real engines."""
    async with Sandbox(engines, at_once=2) as box:
        yield box
