"""The composition root: what it asks of its settings before anything is opened."""

from pathlib import Path

import pytest

from chassis.lifecycle import CannotStart
from chassis.sealing import MasterKey
from chassis.settings import Settings
from chassis.telemetry import notes_of
from gateway.__main__ import egress_of, master_key, tls_of


@pytest.mark.parametrize("content", [None, "too short", ""])
def test_without_a_master_key_it_does_not_start(tmp_path: Path, content: str | None) -> None:
    path = tmp_path / "master.key"
    if content is not None:
        path.write_text(content)
        path.chmod(0o600)
    with pytest.raises(CannotStart, match=f"AUTOMATEOS_MASTER_KEY_FILE: {path}"):
        master_key(Settings(master_key_file=str(path)))


def test_the_master_key_is_read_from_its_file(tmp_path: Path) -> None:
    made = MasterKey.generate(tmp_path / "master.key")
    assert master_key(Settings(master_key_file=str(tmp_path / "master.key"))).id == made.id


def test_an_allow_list_that_cannot_be_read_is_no_start() -> None:
    with pytest.raises(CannotStart, match="AUTOMATEOS_EGRESS_ALLOW"):
        egress_of(Settings(egress_allow="everything"))


def test_it_speaks_tls_when_there_is_a_certificate() -> None:
    assert tls_of(Settings()) is None
    assert tls_of(Settings(tls_certificate_file="c", tls_key_file="k")) == ("c", "k")


def test_that_the_log_may_lose_what_was_accepted_is_told() -> None:
    assert notes_of(Settings()) == ()
    assert "power cut" in notes_of(Settings(unsafe_fast=True))[0]
