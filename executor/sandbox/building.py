"""Makes the file of an engine: `python -m executor.sandbox.building <language> <file>`. Whole or not at all."""

import fcntl
import os
import shutil
import subprocess
import sys
import tempfile
from importlib.resources import files
from pathlib import Path
from typing import Final

from wasmtime import Engine, Module
from wasmtime.component import Component

from executor.sandbox.engines import GUESTS
from executor.sandbox.guest import engine

_COMPONENTIZE: Final = "import sys; from componentize_py import script; sys.exit(script())"
_OLD_SECONDS: Final = 7 * 24 * 3600.0


def main(language: str, file: Path) -> None:
    """Several may be asked for the same at once: the first makes it, the others wait and find it."""
    os.nice(5)
    file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    with (file.parent / "lock").open("wb") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if file.exists():
            return
        with tempfile.TemporaryDirectory(dir=file.parent) as folder:
            draft = Path(folder, file.name)
            draft.write_bytes(compiled(language, Path(folder), engine()))
            draft.replace(file)
        remove_old(language, file)


def compiled(language: str, folder: Path, runtime: Engine) -> bytes:
    if language == "javascript":
        return bytes(Module.from_file(runtime, str(GUESTS / "javascript/quickjs.wasm")).serialize())
    component = folder / "python.wasm"
    guest = str(GUESTS / "python")
    shutil.copytree(str(files("tzdata")), folder / "packages" / "tzdata")
    paths = ("-p", guest, "-p", str(folder / "packages"))
    where = ("-d", guest, "-w", "code", "componentize", *paths, "guest", "-o", str(component))
    subprocess.run(  # noqa: S603  # Our own words.
        (sys.executable, "-I", "-c", _COMPONENTIZE, "--quiet", *where),
        check=True,
        cwd=folder,
        env={"TMPDIR": str(folder)},
    )
    return bytes(Component.from_file(runtime, str(component)).serialize())


def remove_old(language: str, file: Path) -> None:
    """The files of earlier releases, when no neighbour of an earlier release can still be at work."""
    for other in file.parent.glob(f"{language}-*.cwasm"):
        if other != file and file.stat().st_mtime - other.stat().st_mtime > _OLD_SECONDS:
            other.unlink(missing_ok=True)


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]))
