"""One real installation for all stories: `automateos up` as an operator would start it."""

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TypeAlias

import pytest

from deploy.testing.installation import Installation, installation

Lend: TypeAlias = Callable[[Installation], None]


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
