"""The key with which a new installation is entered."""

import stat
from pathlib import Path

import pytest

from chassis.testing.clock import HandClock
from chassis.vault import api_key_hash
from gateway.first_key import ORG, ensure_first_key
from gateway.permissions import SCOPES
from tests.gateway.fakes import MemoryVault


@pytest.fixture
def vault() -> MemoryVault:
    return MemoryVault(HandClock())


async def test_it_may_do_everything_and_only_its_owner_can_read_it(
    vault: MemoryVault, tmp_path: Path
) -> None:
    path = tmp_path / "first-key"
    assert await ensure_first_key(vault, path) is True
    digest = api_key_hash(path.read_text().strip())
    assert digest is not None
    key = await vault.find_key(digest)
    assert key is not None
    assert (key.org, set(key.scopes)) == (ORG, set(SCOPES))
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert list(tmp_path.iterdir()) == [path]


async def test_it_is_made_once(vault: MemoryVault, tmp_path: Path) -> None:
    path = tmp_path / "first-key"
    await ensure_first_key(vault, path)
    text = path.read_text()
    assert await ensure_first_key(vault, path) is False
    assert path.read_text() == text
    assert len(await vault.list_keys(ORG)) == 1


async def test_what_a_start_that_died_left_behind_is_no_obstacle(vault: MemoryVault, tmp_path: Path) -> None:
    (tmp_path / "first-key.new").write_text("half a ke")
    assert await ensure_first_key(vault, tmp_path / "first-key") is True


async def test_a_file_that_holds_no_key_is_not_overwritten(vault: MemoryVault, tmp_path: Path) -> None:
    path = tmp_path / "first-key"
    path.write_text("something else")
    with pytest.raises(ValueError, match="no API key"):
        await ensure_first_key(vault, path)
    assert path.read_text() == "something else"
    assert await vault.list_keys(ORG) == []
