"""Migrations follow each other one by one: two of one number, made side by side, would stop every installation."""

import re
from itertools import pairwise
from pathlib import Path

import deploy

VERSIONS = Path(deploy.__file__).parent / "migrations" / "versions"


def named(path: Path, name: str) -> str | None:
    found = re.search(rf'^{name} = "(\d+)"$', path.read_text(), re.MULTILINE)
    return None if found is None else found[1]


def test_every_migration_follows_the_one_before_it() -> None:
    files = sorted(VERSIONS.glob("[0-9]*_*.py"))
    numbers = [path.name.partition("_")[0] for path in files]
    assert numbers == [f"{number:04}" for number in range(1, len(files) + 1)]
    assert [named(path, "revision") for path in files] == numbers
    assert [(named(path, "down_revision"), named(path, "revision")) for path in files[1:]] == list(
        pairwise(numbers)
    )
