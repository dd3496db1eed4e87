"""The one folder that holds the state of an embedded stack: who may open it, what must be in it."""

import contextlib
import fcntl
import os
import secrets
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Final

import msgspec
from msgspec import Meta, Struct

from deploy.refusals import Refused

FORMAT: Final = 1
_FORMAT_FILE: Final = "automateos.json"
_LOCK_FILE: Final = "lock"
# What a start that was killed at once may have left; `lost+found` is an ext4 volume's own.
_BEFORE_FORMAT: Final = frozenset({_LOCK_FILE, f".{_FORMAT_FILE}.new", "lost+found"})
_FOLDERS: Final = ("nats", "redis", "run", "secrets", "secrets/nats", "secrets/postgres", "logs", "mail")
# What nobody can make again: a directory that was complete once and lacks one of these has lost data.
_PIECES: Final = (
    "secrets/master.key",
    "secrets/signing.key",
    "secrets/postgres/postgres.password",
    "nats/store",
    "postgres/cluster/PG_VERSION",
)


class Format(Struct, frozen=True, kw_only=True):
    """The content of the format file."""

    format: Annotated[int, Meta(ge=1)]
    instance: Annotated[str, Meta(pattern="^[0-9a-f]{12}$")]
    complete: bool = False
    """A start has come to its end, so a missing piece is a loss and not a first start that was killed."""


class _FormatNumber(Struct, frozen=True):
    """The one field that every release's format file has."""

    format: Annotated[int, Meta(ge=1)]


class DataDirectory(Struct, frozen=True, kw_only=True):
    """An open, locked data directory. Every path in it is absolute."""

    root: Path
    instance: str

    @property
    def nats(self) -> Path:
        return self.root / "nats"

    @property
    def postgres(self) -> Path:
        """A folder, or a link to one that Postgres' own user can reach (see deploy/servers/postgres.py)."""
        return self.root / "postgres"

    @property
    def redis(self) -> Path:
        return self.root / "redis"

    @property
    def run(self) -> Path:
        return self.root / "run"

    @property
    def secrets(self) -> Path:
        return self.root / "secrets"

    @property
    def logs(self) -> Path:
        return self.root / "logs"

    @property
    def mail(self) -> Path:
        return self.root / "mail"

    def mark_complete(self) -> None:
        """From now on a missing piece is a loss."""
        _write_format(self.root, Format(format=FORMAT, instance=self.instance, complete=True))


@contextlib.contextmanager
def open_data_directory(path: Path) -> Iterator[DataDirectory]:
    """Take the lock, then make or check the folder.

    The lock comes first: two nats-servers on one store both start, and lose messages that they acknowledged.
    """
    root = path.absolute()
    try:
        root.mkdir(mode=0o700, parents=True, exist_ok=True)
        descriptor = os.open(root / _LOCK_FILE, os.O_RDWR | os.O_CREAT, 0o600)
    except OSError as error:
        raise Refused(f"The data directory {root} cannot be used: {error}.") from error
    try:
        pid = _lock_soon(descriptor)
        if pid is not None:
            raise Refused(f"The stack in {root} is already running{f' as pid {pid}' if pid else ''}.")
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, f"{os.getpid()}\n".encode(), 0)
        yield _made_or_checked(root)
    finally:
        os.close(descriptor)  # Gives the lock back, as the end of the process does.


def holder(path: Path) -> int | None:
    """The pid of the supervisor that has this directory open (0: it has just begun); none when nobody has."""
    try:
        descriptor = os.open(path / _LOCK_FILE, os.O_RDWR)
    except FileNotFoundError:
        return None
    try:
        return _lock(descriptor)
    finally:
        os.close(descriptor)


def look(root: Path) -> Format | None:
    """What the format file says; none in a folder in which nothing was begun. Makes nothing; refused as a start is."""
    file = root / _FORMAT_FILE
    if not file.exists():
        strangers = sorted(each.name for each in root.iterdir() if each.name not in _BEFORE_FORMAT)
        if strangers:
            raise Refused(
                f"{root} is not a data directory of AutomateOS: it holds {strangers[0]} and no {_FORMAT_FILE}. "
                "Set AUTOMATEOS_DATA_DIR to an empty folder, or put the file back."
            )
        return None
    owner = file.stat().st_uid
    if owner != os.geteuid():
        raise Refused(
            f"The data directory {root} belongs to user {owner}, this is user {os.geteuid()}: "
            "start as its owner, or set AUTOMATEOS_DATA_DIR to another folder."
        )
    return _decode_format(root, file.read_bytes())


def lost(root: Path) -> list[str]:
    """What a directory that was complete once lacks."""
    return [piece for piece in _PIECES if not (root / piece).exists()]


def _lock_soon(descriptor: int) -> int | None:
    """Whoever only asks for the holder has the lock for an instant; a supervisor keeps it."""
    for _ in range(4):
        if _lock(descriptor) is None:
            return None
        time.sleep(0.05)
    return _lock(descriptor)


def _lock(descriptor: int) -> int | None:
    """Take the lock, or say who has it."""
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return int(os.pread(descriptor, 20, 0).strip() or b"0")
    return None


def _made_or_checked(root: Path) -> DataDirectory:
    try:
        written = _read_format(root)
        if written.complete:
            _refuse_a_loss(root)
        for name in _FOLDERS:
            (root / name).mkdir(mode=0o700, exist_ok=True)
        if os.geteuid() == 0:
            # Postgres runs as another user then and must be able to pass through; the folders inside stay closed.
            root.chmod(root.stat().st_mode | 0o011)
    except OSError as error:
        raise Refused(f"The data directory {root} cannot be used: {error}.") from error
    return DataDirectory(root=root, instance=written.instance)


def _read_format(root: Path) -> Format:
    """What the format file says; made first in an empty folder, so that a killed first start can go on."""
    written = look(root)
    if written is None:
        written = Format(format=FORMAT, instance=secrets.token_hex(6))
        _write_format(root, written)
    return written


def _decode_format(root: Path, content: bytes) -> Format:
    try:
        number = msgspec.json.decode(content, type=_FormatNumber).format
        if number > FORMAT:
            raise Refused(
                f"The data directory {root} has format {number}, this release knows {FORMAT}: use a newer release."
            )
        return msgspec.json.decode(content, type=Format)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise Refused(
            f"The data directory {root} is damaged: {_FORMAT_FILE} cannot be read ({error}). "
            "Restore it from a backup."
        ) from error


def _refuse_a_loss(root: Path) -> None:
    missing = lost(root)
    if missing:
        raise Refused(
            f"The data directory {root} is damaged: {missing[0]} is missing. Restore it from a backup, "
            "or set AUTOMATEOS_DATA_DIR to an empty folder to begin anew."
        )


def _write_format(root: Path, written: Format) -> None:
    write_whole(root / _FORMAT_FILE, msgspec.json.format(msgspec.json.encode(written)) + b"\n")


def write_whole(path: Path, content: bytes) -> None:
    """Write a file that only its owner reads; whole or not at all, also when the power goes."""
    draft = path.with_name(f".{path.name}.new")
    descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    draft.replace(path)
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)
