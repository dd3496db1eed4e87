"""A service reads its keys before it opens anything, and says in one line why it cannot start without them."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from chassis.key_files import master_key, signing_key
from chassis.lifecycle import CannotStart, Stopping
from chassis.sealing import MasterKey, write_key_file
from chassis.settings import Settings
from executor.__main__ import main as executor
from gateway.__main__ import main as gateway
from ingress.__main__ import main as ingress
from projections.__main__ import main as projections


@pytest.mark.parametrize("content", [None, "too short", ""])
def test_without_a_key_there_is_no_start(tmp_path: Path, content: str | None) -> None:
    path = tmp_path / "key"
    if content is not None:
        path.write_text(content)
        path.chmod(0o600)
    with pytest.raises(CannotStart, match=f"AUTOMATEOS_MASTER_KEY_FILE: {path}"):
        master_key(Settings(master_key_file=str(path)))
    with pytest.raises(CannotStart, match=f"AUTOMATEOS_SIGNING_KEY_FILE: {path}"):
        signing_key(Settings(signing_key_file=str(path)))


def test_a_key_is_read_from_its_file(tmp_path: Path) -> None:
    made = MasterKey.generate(tmp_path / "master.key")
    assert master_key(Settings(master_key_file=str(tmp_path / "master.key"))).id == made.id
    write_key_file(tmp_path / "signing.key")
    assert signing_key(Settings(signing_key_file=str(tmp_path / "signing.key"))).public


@pytest.mark.parametrize("service", [gateway, ingress, executor, projections])
async def test_no_service_that_needs_a_key_opens_anything_without_it(
    service: Callable[[Settings, Stopping], Any], tmp_path: Path
) -> None:
    nowhere = str(tmp_path / "nowhere")
    settings = Settings(master_key_file=nowhere, signing_key_file=nowhere, nats_url="nats://127.0.0.1:1")
    with pytest.raises(CannotStart, match="_KEY_FILE: "):
        await service(settings, Stopping())
