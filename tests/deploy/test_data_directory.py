"""What a data directory promises: one holder, no half-made state, no key made twice."""

import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from deploy.data_directory import DataDirectory, holder, open_data_directory
from deploy.keys import Keys
from deploy.refusals import Refused


def complete(root: Path) -> DataDirectory:
    """A directory in which a start has come to its end."""
    with open_data_directory(root) as data:
        Keys(data).postgres_password("postgres")
        (data.nats / "store").mkdir()
        (data.postgres / "cluster").mkdir(parents=True)
        (data.postgres / "cluster/PG_VERSION").write_text("18\n")
        data.mark_complete()
    return data


def test_a_directory_has_one_holder_and_the_second_is_told_which(tmp_path: Path) -> None:
    with open_data_directory(tmp_path / "data"):
        assert holder(tmp_path / "data") == os.getpid()
        with (
            pytest.raises(Refused, match=f"already running as pid {os.getpid()}"),
            open_data_directory(tmp_path / "data"),
        ):
            pass
    assert holder(tmp_path / "data") is None


def test_a_directory_that_is_not_there_has_no_holder(tmp_path: Path) -> None:
    assert holder(tmp_path / "nothing") is None


def test_a_holder_that_is_killed_holds_nothing(tmp_path: Path) -> None:
    take = f"from deploy.data_directory import *; from pathlib import Path; c = open_data_directory(Path({str(tmp_path)!r})); c.__enter__(); print('held', flush=True); input()"
    with subprocess.Popen(
        [sys.executable, "-c", take], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as other:
        assert other.stdout is not None
        assert other.stdout.readline() == b"held\n"
        assert holder(tmp_path) == other.pid
        other.kill()
        other.wait()
    assert holder(tmp_path) is None
    with open_data_directory(tmp_path) as data:
        assert data.root == tmp_path


def test_the_same_directory_keeps_its_instance(tmp_path: Path) -> None:
    with open_data_directory(tmp_path) as first:
        pass
    with open_data_directory(tmp_path) as second:
        assert second.instance == first.instance
    with open_data_directory(tmp_path / "other") as other:
        assert other.instance != first.instance


def test_a_first_start_that_was_killed_can_go_on(tmp_path: Path) -> None:
    with open_data_directory(tmp_path) as data:
        data.mail.rmdir()
    with open_data_directory(tmp_path) as data:
        assert data.mail.is_dir()


@pytest.mark.parametrize(
    ("content", "line"),
    [
        (
            b'{"format": 2, "instance": {"of": "a later shape"}}',
            "has format 2, this release knows 1: use a newer",
        ),
        (b"\x00\x00\x00\x00", "is damaged: automateos.json cannot be read"),
        (b"", "is damaged: automateos.json cannot be read"),
        (b"[]", "is damaged: automateos.json cannot be read"),
        (b'{"format": 1, "instance": "../../etc"}', "is damaged: automateos.json cannot be read"),
        (b'{"format": 0, "instance": "0123456789ab"}', "is damaged: automateos.json cannot be read"),
        (b"\xff\xfe", "is damaged: automateos.json cannot be read"),
    ],
)
def test_a_format_file_that_we_cannot_follow_is_refused_in_one_line(
    tmp_path: Path, content: bytes, line: str
) -> None:
    (tmp_path / "automateos.json").write_bytes(content)
    with pytest.raises(Refused, match=line) as refused, open_data_directory(tmp_path):
        pass
    assert "\n" not in str(refused.value)
    assert (tmp_path / "automateos.json").read_bytes() == content


@pytest.mark.parametrize(
    "piece",
    [
        "secrets/master.key",
        "secrets/signing.key",
        "secrets/postgres/postgres.password",
        "nats/store",
        "postgres/cluster/PG_VERSION",
    ],
)
def test_a_piece_that_nobody_can_make_again_is_missed(tmp_path: Path, piece: str) -> None:
    complete(tmp_path)
    with open_data_directory(tmp_path):
        pass
    path = tmp_path / piece
    path.rmdir() if path.is_dir() else path.unlink()
    with pytest.raises(Refused, match=f"damaged: {piece} is missing"), open_data_directory(tmp_path):
        pass
    assert not path.exists()


def test_what_can_be_made_again_is_made_again(tmp_path: Path) -> None:
    data = complete(tmp_path)
    for folder in (data.run, data.redis, data.logs, data.mail):
        folder.rmdir()
    with open_data_directory(tmp_path) as again:
        assert all(folder.is_dir() for folder in (again.run, again.redis, again.logs, again.mail))


def test_a_folder_with_something_else_in_it_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").write_text("chapter 1")
    with (
        pytest.raises(Refused, match=r"holds thesis\.tex and no automateos\.json"),
        open_data_directory(tmp_path),
    ):
        pass
    assert sorted(path.name for path in tmp_path.iterdir()) == ["lock", "thesis.tex"]


def test_a_place_where_nothing_can_be_made_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(Refused, match="cannot be used"), open_data_directory(tmp_path / "file/data"):
        pass


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can make a directory of somebody else")
def test_somebody_elses_directory_is_refused(tmp_path: Path) -> None:
    with open_data_directory(tmp_path):
        pass
    os.chown(tmp_path / "automateos.json", 65534, 65534)
    with pytest.raises(Refused, match="belongs to user 65534"), open_data_directory(tmp_path):
        pass


def test_an_error_of_the_stack_is_not_taken_for_one_of_the_directory(tmp_path: Path) -> None:
    with pytest.raises(PermissionError), open_data_directory(tmp_path):
        raise PermissionError


def test_keys_are_made_once_and_only_their_owner_reads_them(tmp_path: Path) -> None:
    with open_data_directory(tmp_path) as data:
        first = {path: path.read_bytes() for path in made_keys(data)}
        assert {path: path.read_bytes() for path in made_keys(data)} == first
    assert len(set(first.values())) == len(first) == 7
    for path in first:
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
    for folder in (data.secrets, data.secrets / "nats", data.secrets / "postgres", data.run):
        assert stat.S_IMODE(folder.stat().st_mode) == 0o700


def made_keys(data: DataDirectory) -> list[Path]:
    keys = Keys(data)
    users = keys.nats_users(["gateway", "ingress"])
    return [
        keys.master_key,
        keys.signing_key,
        keys.postgres_password("owner"),
        *(user.seed_file for user in users.values()),
        *(user.seed_file.with_suffix(".public") for user in users.values()),
    ]


def test_a_lost_public_key_is_found_again_from_its_seed(tmp_path: Path) -> None:
    with open_data_directory(tmp_path) as data:
        before = Keys(data).nats_users(["gateway"])["gateway"]
        before.seed_file.with_suffix(".public").unlink()
        assert Keys(data).nats_users(["gateway"])["gateway"] == before
    assert before.public_key.startswith("U")
    assert before.seed_file.read_bytes().startswith(b"SU")
