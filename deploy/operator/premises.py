"""What a stack stands on, whether or not one runs: the machine, the data directory, the keys in it, the ports."""

import os
import platform
import shutil
import statistics
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from chassis.sealing import KeyFileUnusable, read_key_file
from chassis.settings import Settings
from deploy.data_directory import Format, holder, look, lost
from deploy.operator.findings import Finding, bad, note, ok
from deploy.ports import taken
from deploy.refusals import Refused
from deploy.stack import last_refusal, pids, wanted_ports

_SYNCS: Final = 20
_LEAST_FREE: Final = 0.1
_PLENTY_BYTES: Final = 20 * 2**30
"""On a volume of many terabytes a tenth of it is no shortage."""
_MASTER: Final = "secrets/master.key"
_KEYS: Final = {
    _MASTER: "the copy of it that is kept apart from the data: without it nothing that is sealed opens",
    "secrets/signing.key": "it from a backup of the data directory: without it no anchor is signed",
}


def machine(settings: Settings, folder: Path) -> Iterator[Finding]:
    """What every stack needs."""
    cores = os.cpu_count()
    yield ok(f"Python {platform.python_version()} on {platform.system()} {platform.machine()}, {cores} cores")
    existing = next(each for each in (folder, *folder.parents) if each.is_dir())
    usage = shutil.disk_usage(existing)
    free = usage.free / usage.total
    words = f"{usage.free / 2**30:.1f} GiB free on the volume of {folder} ({free:.0%})"
    if free >= _LEAST_FREE or usage.free >= _PLENTY_BYTES:
        yield ok(words)
    else:
        yield bad(f"{words}: make room there, or move the data directory to another volume")
    try:
        yield ok(f"a synced write there takes {_sync_ms(existing):.2f} ms (median of {_SYNCS})")
    except OSError as error:
        yield bad(
            f"{existing} cannot be written to ({error.strerror}): give this user the right, or make room"
        )
    if settings.unsafe_fast:
        yield bad(
            "AUTOMATEOS_UNSAFE_FAST is set, a power cut loses what was accepted: unset it and start again"
        )


def _sync_ms(folder: Path) -> float:
    """How long a small write takes to reach the disk: what every accepted thing waits for."""
    spent = []
    with tempfile.TemporaryFile(dir=folder) as file:
        for _ in range(_SYNCS):
            file.write(b"x" * 512)
            file.flush()
            began = time.perf_counter()
            os.fsync(file.fileno())
            spent.append((time.perf_counter() - began) * 1000)
    return statistics.median(spent)


def data_directory(folder: Path) -> Iterator[Finding]:
    """Whether a start would take it as it is."""
    if not folder.exists():
        yield note(f"{folder} is not there yet: the first `automateos up` makes it")
        return
    try:
        written = look(folder)
        pid = holder(folder)
    except Refused as reason:
        yield bad(str(reason))
        return
    except OSError as error:
        yield bad(
            f"The data directory {folder} cannot be used: {error}. Set AUTOMATEOS_DATA_DIR to another one."
        )
        return
    yield ok(f"data directory {folder}" + (f", in use by pid {pid}" if pid else ""))
    yield from _pieces(folder, written)


def _pieces(folder: Path, written: Format | None) -> Iterator[Finding]:
    """What nobody can make again."""
    missing = lost(folder) if written is not None and written.complete else []
    for piece in missing:
        if piece in _KEYS:
            yield bad(f"{folder / piece} is missing: put back {_KEYS[piece]}")
        else:
            yield bad(f"{folder / piece} is missing: restore the data directory from a backup")
    for piece, kept in _KEYS.items():
        if piece in missing or not (folder / piece).exists():
            continue
        try:
            read_key_file(folder / piece)
        except KeyFileUnusable as reason:
            mended = "" if "chmod" in str(reason) else f", or put back {kept}"
            yield bad(f"{reason}{mended}")
        else:
            if piece == _MASTER:
                yield note(f"the master key is {folder / piece}: keep a copy of it apart from the data")


def nothing_ready(settings: Settings, folder: Path) -> Iterator[Finding]:
    """Why no stack is ready here, and whether one could start."""
    pid = holder(folder) if folder.exists() else None
    if pid is not None:
        yield bad(
            f"pid {pid} has {folder} open and no stack is ready there: it starts, stops or mends. "
            "Ask again in a moment; what its processes say is in logs/ there"
        )
        return
    for name, left in pids(folder).items():
        yield note(f"{name} (pid {left}) was left over from a killed start: the next start stops it")
    refusals = list(taken(wanted_ports(settings)))
    for refusal in refusals:
        yield bad(str(refusal))
    if not refusals:
        yield ok("every port that a stack needs is free")
    yield _not_running(folder, last_refusal(folder))


def _not_running(folder: Path, refusal: str) -> Finding:
    if refusal:
        return bad(
            f"no stack runs in {folder}, and the last one ended so: {refusal} "
            "(when that is mended: `automateos up`)"
        )
    if (folder / _MASTER).exists():
        return bad(f"no stack runs in {folder}: start it with `automateos up`")
    return note(f"no stack has run in {folder} yet: `automateos up` starts one")
