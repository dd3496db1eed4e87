"""The engines as files: compiled for this machine when code first needs them, and kept.

A file's name is made from all that it was made from, so an upgrade or another processor gets a file of its own.
"""

import asyncio
import hashlib
import platform
import sys
from asyncio.subprocess import DEVNULL, PIPE, Process
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from typing import Final

import structlog

from executor.errors import StepError
from executor.sandbox.messages import Language

log = structlog.get_logger()

ROOT: Final = Path(__file__).resolve().parents[2]
GUESTS: Final = Path(__file__).parent / "guests"
_SOURCES: Final[dict[Language, tuple[str, ...]]] = {
    "python": ("python/guest.py", "python/world.wit"),
    "javascript": ("javascript/quickjs.wasm",),
}
_MAKERS: Final[dict[Language, tuple[str, ...]]] = {
    "python": ("wasmtime", "componentize-py", "tzdata"),
    "javascript": ("wasmtime",),
}
_TITLES: Final[dict[Language, str]] = {"python": "Python", "javascript": "JavaScript"}
_SECONDS: Final = 300.0
_TOLD_CHARS: Final = 300


class NoEngine(StepError):
    """The engine for this language could not be made on this machine."""

    code = "code.no_engine"
    retryable = True


class Engines:
    """The engines in one folder, which several executors may share."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._ready: dict[Language, Path] = {}
        self._turns: dict[Language, asyncio.Lock] = {"python": asyncio.Lock(), "javascript": asyncio.Lock()}

    async def file(self, language: Language, tell: Callable[[str], None]) -> Path:
        """The engine's file; made first when there is none, which `tell` is told. Raises `NoEngine`."""
        known = self._ready.get(language)
        if known is not None and known.exists():
            return known
        async with self._turns[language]:
            file = self._folder.absolute() / f"{language}-{self._name(language)}.cwasm"
            if not file.exists():
                await self._make(language, file, tell)
            self._ready[language] = file
            return file

    async def _make(self, language: Language, file: Path, tell: Callable[[str], None]) -> None:
        tell(f"The {_TITLES[language]} engine is being made for this machine, once. It takes up to a minute.")
        clock = asyncio.get_running_loop().time
        began = clock()
        log.info("engine.making", language=language, file=str(file))
        try:
            process = await asyncio.create_subprocess_exec(
                *command("executor.sandbox.building", language, str(file)),
                stdin=DEVNULL,
                stdout=DEVNULL,
                stderr=PIPE,
                env={},
                start_new_session=True,
            )
        except OSError as error:
            raise NoEngine(f"{NoEngine.__doc__} ({error})") from error
        wrong = await _ended(process)
        if wrong:
            log.error("engine.not-made", language=language, reason=wrong[-2_000:])
            raise NoEngine(f"{NoEngine.__doc__} ({' '.join(wrong.split())[-_TOLD_CHARS:]})")
        log.info("engine.made", language=language, seconds=round(clock() - began, 1))
        tell(f"The {_TITLES[language]} engine is ready.")

    @staticmethod
    def _name(language: Language) -> str:
        made_from = hashlib.sha256()
        for source in _SOURCES[language]:
            made_from.update((GUESTS / source).read_bytes())
        for maker in _MAKERS[language]:
            made_from.update(f"{maker} {version(maker)}\n".encode())
        made_from.update(_processor().encode())
        return made_from.hexdigest()[:16]


async def _ended(process: Process) -> str:
    """What went wrong, empty when nothing did. Ends the process in any case."""
    try:
        async with asyncio.timeout(_SECONDS):
            _, told = await process.communicate()
    except TimeoutError:
        return f"it took longer than {_SECONDS:g} s"
    finally:
        if process.returncode is None:
            process.kill()
            await asyncio.shield(process.wait())
    return "" if process.returncode == 0 else told.decode(errors="replace") or f"exit {process.returncode}"


def _processor() -> str:
    """What compiled code depends on: the machine, and what its processor can do."""
    about = Path("/proc/cpuinfo")
    lines = about.read_text(encoding="utf-8", errors="replace").splitlines() if about.exists() else []
    able = next((line for line in lines if line.lower().startswith(("flags", "features"))), "")
    return f"{sys.platform} {platform.machine()} {able}"


def command(module: str, *arguments: str) -> tuple[str, ...]:
    """How one of our modules is run by itself."""
    return alone(
        f"import runpy; runpy.run_module({module!r}, run_name='__main__', alter_sys=True)", *arguments
    )


def alone(code: str, *arguments: str) -> tuple[str, ...]:
    """How code of ours is run without the folder, the variables or the user's packages that happen to be around."""
    return (
        sys.executable,
        "-I",
        "-X",
        "utf8",
        "-c",
        f"import sys; sys.path.insert(0, {str(ROOT)!r})\n{code}",
        *arguments,
    )
