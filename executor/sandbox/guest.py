"""What every guest has in common: where its time and its chance come from, who hears it, and what ends it."""

import random
from collections.abc import Callable
from typing import Final, Protocol

import msgspec
from msgspec import Raw
from wasmtime import Config, Engine, ExitTrap, Trap, TrapCode, WasmtimeError

from contracts.limits import LOG_BYTES, LOG_LINES
from executor.sandbox.messages import LINE_CHARS, Ending, Failed, Job, Said, Spoken, Unsaid

_STACK_BYTES: Final = 2 * 1024 * 1024
_MICROSECOND: Final = 1_000
_LEVELS: Final = frozenset({"debug", "info", "warning", "error"})


class Forbidden(Exception):
    """The code wanted something that a sandbox does not have."""


class Guest(Protocol):
    """An engine that runs code."""

    def run(self, job: Job, say: Callable[[Said], None]) -> Ending:
        """Run code in a fresh instance. Raises what the engine raises when it has to stop it."""
        ...


class Surroundings:
    """All that a guest can notice of the world: a function of its job, so that the same attempt computes the same."""

    def __init__(self, job: Job, say: Callable[[Said], None]) -> None:
        self._random = random.Random(job.seed)  # noqa: S311  # Chance that can be repeated is the point.
        self._began = round(job.now * 1_000_000) * _MICROSECOND
        self._looks = 0
        self._say = say

    def wall_ns(self) -> int:
        return self._began + self.passed_ns()

    def passed_ns(self) -> int:
        """A clock that goes on by a microsecond whenever somebody looks at it."""
        self._looks += 1
        return self._looks * _MICROSECOND

    def chance(self, size: int) -> bytes:
        return self._random.randbytes(size)

    def say(self, level: str, line: int, text: str) -> None:
        """Hand a line on."""
        shown = text[:LINE_CHARS]
        known = level if level in _LEVELS else "info"
        self._say(msgspec.convert({"type": "said", "level": known, "line": line, "text": shown}, Said))


class Voice:
    """Hands an attempt's lines on; what is beyond its bounds is let fall here already, and counted."""

    def __init__(self, say: Callable[[Spoken], None]) -> None:
        self._say = say
        self._lines = self._chars = 0
        self._unsaid_lines = self._unsaid_chars = 0

    def say(self, said: Said) -> None:
        self._lines += 1
        self._chars += len(said.text)
        if self._lines <= LOG_LINES and self._chars <= LOG_BYTES + LINE_CHARS:
            self._say(said)
        else:
            self._unsaid_lines += 1
            self._unsaid_chars += len(said.text)

    def end(self) -> None:
        if self._unsaid_lines:
            self._say(Unsaid(lines=self._unsaid_lines, chars=self._unsaid_chars))


def facts_of(job: Job) -> str:
    """What the guest is told besides its source."""
    return msgspec.json.encode(
        {"input": Raw(job.input), "seed": job.seed, "now": job.now, "key": job.key}
    ).decode()


def configured() -> Config:
    """How code is compiled and run; the same where it is compiled and where it is run."""
    config = Config()
    config.epoch_interruption = True
    config.wasm_component_model = True
    config.max_wasm_stack = _STACK_BYTES
    return config


def engine() -> Engine:
    return Engine(configured())


def stopped(error: BaseException) -> Failed:
    """Why the engine stopped a guest."""
    text = str(error)
    code = error.trap_code if isinstance(error, Trap) else None
    if code == TrapCode.INTERRUPT or "wasm trap: interrupt" in text:
        return Failed(kind="processor")
    if code == TrapCode.STACK_OVERFLOW or "call stack exhausted" in text:
        return Failed(kind="depth")
    if isinstance(error, MemoryError):
        return Failed(kind="memory")
    if isinstance(error, ExitTrap):
        return Failed(kind="forbidden", message="it tried to end its process")
    if isinstance(error, Forbidden):
        return Failed(kind="forbidden", message=str(error))
    if isinstance(error, Trap | WasmtimeError):
        return Failed(kind="forbidden", message=text.strip().splitlines()[-1].strip()[:200])
    return Failed(kind="forbidden", message=f"it confused its engine ({type(error).__name__})")
