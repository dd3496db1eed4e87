"""One process, one mutant: apply it, then play schedules until the checker finds a violation. Speaks JSON lines.

`python -m tests.mutants.hunt` reads one order a line and forks a hunter for each, so that what is not ours is imported
once. Of ours nothing but the table of mutants is imported before a mutant is applied.
"""

import contextlib
import importlib
import io
import os
import re
import sys
from collections.abc import Sequence
from typing import Any, Final

import msgspec
from msgspec import Struct

from tests.mutants.mutant import ROOT, Broken, Edit, apply

OUR_OWN_MISTAKE: Final = re.compile(
    rb"\b(NameError|AttributeError|TypeError|UnboundLocalError|ImportError|ModuleNotFoundError)\b"
)
"""A mutant that shows itself by one of these is badly written: that says nothing about the checker."""
TOLD_EVERY: Final = 25
_PYTEST: Final = (
    *("-q", "-x", "--no-header", "-p", "no:cacheprovider"),
    # A plug-in of pytest that was imported before pytest has no better asserts. Nobody reads them here.
    *("-W", "ignore::pytest.PytestAssertRewriteWarning"),
)
OURS: Final = frozenset(path.name for path in ROOT.iterdir() if path.is_dir())


class Order(Struct, frozen=True, kw_only=True):
    """What a hunting process is asked to do."""

    edits: Sequence[Edit]
    stage: str
    seeds: Sequence[int] = ()
    tests: Sequence[str] = ()


class Word(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What a hunting process says: how far it is, and in the end what came of the mutant."""

    state: str
    """`passed` (so far), `killed`, `broken`; `over` when the hunter has ended."""
    seed: int = -1
    promise: str = ""
    said: str = ""
    schedules: int = 0


class Mouth:
    """Where words are said: the standard output as it was at the start. From then on nothing else gets there."""

    def __init__(self) -> None:
        self._out = os.fdopen(os.dup(1), "wb")
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, 1)
        os.close(nowhere)

    def say(self, word: Word) -> None:
        self._out.write(msgspec.json.encode(word) + b"\n")
        self._out.flush()


def main() -> None:
    mouth = Mouth()
    _import_what_is_not_ours()
    for line in sys.stdin.buffer:
        hunter = os.fork()
        if hunter == 0:
            mouth.say(hunted(msgspec.json.decode(line, type=Order), mouth))
            os._exit(0)
        code = os.waitstatus_to_exitcode(os.waitpid(hunter, 0)[1])
        mouth.say(Word(state="over", said=f"the hunter ended with {code}" if code else ""))


def _import_what_is_not_ours() -> None:
    """Every module that a hunter will import and that no mutant can change."""
    reading, writing = os.pipe()
    scout = os.fork()
    if scout == 0:
        with contextlib.suppress(Exception):
            importlib.import_module("tests.mutants.stages")
        with os.fdopen(writing, "w") as pipe:
            pipe.write(" ".join(name for name in sys.modules if name.partition(".")[0] not in OURS))
        os._exit(0)
    os.close(writing)
    with os.fdopen(reading) as pipe:
        names = pipe.read().split()
    os.waitpid(scout, 0)
    for name in names:
        with contextlib.suppress(Exception):  # Whatever cannot be imported alone is left to the hunters.
            importlib.import_module(name)


def hunted(order: Order, mouth: Mouth) -> Word:
    """What comes of an order. Only once in a process: what was imported stays changed."""
    try:
        apply(order.edits)
        return _tested(order.tests) if order.tests else _hunted(order, mouth)
    except Broken as broken:
        return Word(state="broken", said=str(broken))
    except Exception as error:  # Whatever the import of a mutant raises is told, not lost.
        return Word(state="broken", said=f"{type(error).__name__}: {error}")


def _tested(tests: Sequence[str]) -> Word:
    import pytest  # Only here is it needed.

    with contextlib.redirect_stdout(io.StringIO()) as printed, contextlib.redirect_stderr(printed):
        code = pytest.main([*_PYTEST, *tests])
    text = printed.getvalue()
    failed = re.search(r"^FAILED (\S+::.*)$", text, re.MULTILINE)
    match int(code):
        case 0:
            return Word(state="passed", schedules=1)
        case 1 if failed is not None:
            if OUR_OWN_MISTAKE.search(failed[1].encode()):
                return Word(state="broken", said=failed[1])
            return Word(state="killed", promise="test", said=failed[1][:300], schedules=1)
        case _:
            return Word(state="broken", said=text[-500:])


def _hunted(order: Order, mouth: Mouth) -> Word:
    from tests.mutants.stages import STAGES, quiet  # Not before the mutant was applied.

    play = STAGES[order.stage]
    with quiet():
        without_faults = STAGES["calm"](0)
        if any(violation.promise == "crash" for violation in without_faults.violations):
            return Word(state="broken", said=without_faults.violations[0].what[-500:], schedules=1)
        for number, seed in enumerate(order.seeds, 1):
            seen = play(seed)
            if seen.violations:
                return _judged(seed, seen, number)
            if number % TOLD_EVERY == 0:
                mouth.say(Word(state="passed", seed=seed, schedules=number))
    return Word(state="passed", seed=order.seeds[-1], schedules=len(order.seeds))


def _judged(seed: int, seen: Any, schedules: int) -> Word:
    violation = seen.violations[0]
    mistake = next((text for text in seen.texts if OUR_OWN_MISTAKE.search(text)), None)
    if mistake is not None:
        said = mistake.decode(errors="replace")[-500:]
        return Word(state="broken", seed=seed, said=said, schedules=schedules)
    said = str(violation)[:300]
    return Word(state="killed", seed=seed, promise=violation.promise, said=said, schedules=schedules)


if __name__ == "__main__":
    main()
