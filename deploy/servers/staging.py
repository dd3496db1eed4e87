"""Atomic batches staged in memory: a link in nats-server's store (design: spine.md §4.2).

nats-server stages each batch in a folder of its own, with five syncs, before the one sync of the stream that its
acknowledgement stands on. A staged batch is never read again after a restart, so memory is a safe place for it; without
the link only speed is lost. The server deletes the link at each start, so it is made anew after each start. This is not a
documented feature: it is used only with the server versions that were cut off from power while batches were acknowledged.
"""

import contextlib
import os
import shutil
import stat
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from deploy.data_directory import write_whole

TESTED_VERSIONS: Final = frozenset({"2.15.1"})
SHARED_MEMORY: Final = Path("/dev/shm")  # noqa: S108  # The folder in it gets an unpredictable name and mode 0700.
_PREFIX: Final = "automateos-"
# 50 batches may be in flight per stream, of 256 KiB to some MB each; a container's default /dev/shm (64 MB) is too small.
_LEAST_BYTES: Final = 128 * 1024 * 1024


class Staging:
    """The folder in memory and the links to it."""

    def __init__(self, store: Path, streams: Sequence[str], *, memory: Path = SHARED_MEMORY) -> None:
        self._store = store
        self._streams = streams
        self._memory = memory
        self._record = store.parent / "staging"
        self._folder: Path | None = None
        self.state = "on disk: nats-server has not started"

    def link(self, version: str) -> None:
        """Link the staging folder of each stream that exists by now. Safe to call as often as one likes."""
        if not self._streams:
            self.state = "on disk: no stream asks for it"
            return
        reason = self._why_not(version)
        if reason:
            self.state = f"on disk: {reason}"
            return
        linked = [folder.name for folder in self._stream_folders() if _link(folder, self._target(folder))]
        self.state = f"in memory: {', '.join(sorted(linked))}" if linked else "on disk: no stream exists yet"

    def forget(self) -> None:
        """Remove the folder in memory, also the one of a start that was killed."""
        with contextlib.suppress(FileNotFoundError):
            folder = Path(self._record.read_text())
            if folder.parent == self._memory and folder.name.startswith(_PREFIX) and _is_our_folder(folder):
                shutil.rmtree(folder)
        self._record.unlink(missing_ok=True)
        self._folder = None

    def _why_not(self, version: str) -> str:
        if version not in TESTED_VERSIONS:
            return f"nats-server {version} is not on the list of tested versions"
        try:
            free = shutil.disk_usage(self._memory).free
        except OSError:
            return f"there is no {self._memory}"
        if self._folder is None and free < _LEAST_BYTES:
            return f"{self._memory} has only {free >> 20} MB"
        return ""

    def _stream_folders(self) -> list[Path]:
        return [
            folder for name in self._streams for folder in self._store.glob(f"jetstream/*/streams/{name}")
        ]

    def _target(self, stream: Path) -> Path:
        """`<memory>/automateos-…/<account>/<stream>`."""
        if self._folder is None:
            self.forget()
            self._folder = Path(tempfile.mkdtemp(prefix=_PREFIX, dir=self._memory))
            write_whole(self._record, str(self._folder).encode())
        return self._folder / stream.parents[1].name / stream.name


def _link(stream: Path, target: Path) -> bool:
    link = stream / "batches"
    if link.is_symlink() and link.readlink() == target and target.is_dir():
        return True
    if target.exists():
        shutil.rmtree(target)  # Half a batch from before the restart: nobody reads it again.
    target.mkdir(parents=True)
    if link.is_symlink():
        link.unlink()
    aside = stream.parents[3] / f"batches-of-{stream.parents[1].name}-{stream.name}"
    if link.exists():
        # A client was faster than we. What it stages at this moment is refused, and it sends it again.
        link.rename(aside)
    link.symlink_to(target)
    shutil.rmtree(aside, ignore_errors=True)
    return True


def _is_our_folder(folder: Path) -> bool:
    status = os.lstat(folder)
    return stat.S_ISDIR(status.st_mode) and status.st_uid == os.geteuid()
