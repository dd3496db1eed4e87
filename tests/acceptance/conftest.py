"""One real installation for all stories: `automateos up` as an operator would start it."""

import shutil
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final, TypeAlias

import pytest

from deploy.testing.installation import Installation, installation

Lend: TypeAlias = Callable[[Installation], None]
BACK_SECONDS: Final = 60.0


@pytest.fixture(scope="session")
def lend_python(python_engine: Path) -> Lend:
    """Gives a running installation the Python engine that is there. JavaScript's it makes itself, as every new one does."""

    def lend(running: Installation) -> None:
        folder = running.data / "engines"
        folder.mkdir(mode=0o700, exist_ok=True)
        shutil.copy(python_engine, folder)

    return lend


@pytest.fixture(scope="session")
def installed(lend_python: Lend) -> Iterator[Installation]:
    with installation(egress_allow="127.0.0.1/32:*") as running:
        running.start()
        lend_python(running)
        yield running


@pytest.fixture(autouse=True)
def whole_again(request: pytest.FixtureRequest) -> Iterator[None]:
    """Whoever killed something leaves it to the next test when it is back."""
    yield
    if "installed" not in request.fixturenames:
        return
    running: Installation = request.getfixturevalue("installed")
    end = time.monotonic() + BACK_SECONDS
    while not running.ready():
        assert time.monotonic() < end, "everything is back"
        time.sleep(0.1)
