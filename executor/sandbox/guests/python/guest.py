"""The inside of the Python sandbox: compiled into a WebAssembly component together with CPython, never imported by us.

Rule that holds here: nothing in this file protects anybody. User code runs in the same interpreter and can change all of it;
the outside believes nothing that comes from here. A module that is not imported while the component is built does not exist
for user code.
"""

import ast
import builtins
import collections
import dataclasses
import datetime as dt
import decimal
import enum
import importlib
import io
import json
import logging
import random
import sys
import time
import traceback
import types
import uuid
import zoneinfo
from typing import Any, NoReturn

import wit_world  # type: ignore[import-not-found]  # componentize-py makes it from world.wit.

CODE = "<code>"
ZONES = [zoneinfo.ZoneInfo(name) for name in sorted(zoneinfo.available_timezones())]
"""All time zones, read while the component is built: inside there are no files, and what is held here is found again."""
_LINE_CHARS = 8_000
_MESSAGE_CHARS = 1_900
_LEVELS = ((logging.ERROR, "error"), (logging.WARNING, "warning"), (logging.INFO, "info"), (0, "debug"))
_MISSING = object()
_MODULES = """
abc array asyncio base64 binascii bisect calendar cmath codecs collections.abc colorsys configparser contextlib contextvars copy copyreg csv difflib email.message
email.parser email.policy email.utils fnmatch fractions functools graphlib gzip hashlib heapq hmac html html.entities
html.parser http.cookies inspect ipaddress itertools keyword linecache locale math mimetypes numbers operator pathlib
pprint queue quopri re reprlib secrets shlex statistics string string.templatelib stringprep struct textwrap threading
timeit tokenize tomllib typing unicodedata urllib.parse warnings weakref xml.etree.ElementTree xml.sax.saxutils
zipfile zlib _strptime encodings.ascii encodings.base64_codec encodings.cp437 encodings.cp1252
encodings.hex_codec encodings.idna encodings.iso8859_15 encodings.latin_1 encodings.punycode
encodings.raw_unicode_escape encodings.unicode_escape encodings.utf_8_sig encodings.utf_16 encodings.utf_32
"""
for _name in _MODULES.split():
    importlib.import_module(_name)  # So that user code may import it.


class InputError(Exception):
    """The input is not what the code needs."""


class Asked(Exception):
    """The code ended its attempt by `fail`."""

    def __init__(self, message: str, *, retry: bool) -> None:
        super().__init__(message)
        self.retry = retry


class Speaker(io.TextIOBase):
    """Where `print` goes: each line is said with its level and the line of the code that wrote it."""

    def __init__(self, level: str) -> None:
        self._level, self._waiting, self._line = level, "", 0

    def write(self, text: str) -> int:
        self._line = line_of(sys._getframe(1)) or self._line  # noqa: SLF001  # There is no other way to it.
        *whole, self._waiting = (self._waiting + text).split("\n")
        for line in whole:
            self._say(line)
        if len(self._waiting) > _LINE_CHARS:
            self.end()
        return len(text)

    def writable(self) -> bool:
        return True

    def end(self) -> None:
        if self._waiting:
            text, self._waiting = self._waiting, ""
            self._say(text)

    def _say(self, text: str) -> None:
        wit_world.say(self._level, self._line, sendable(text[:_LINE_CHARS]))


class Lines(logging.Handler):
    """What the `logging` module is told."""

    def emit(self, record: logging.LogRecord) -> None:
        level = next(name for number, name in _LEVELS if record.levelno >= number)
        line = record.lineno if record.pathname == CODE else 0
        wit_world.say(level, line, sendable(self.format(record)[:_LINE_CHARS]))


class WitWorld(wit_world.WitWorld):  # type: ignore[misc]  # Of it mypy knows nothing.
    """What the outside may call."""

    def run(self, source: str, given: str) -> str:
        """`v` and the result as JSON, or `e` and an object that tells what went wrong."""
        facts = json.loads(given)
        random.seed(facts["seed"])
        out, error = sys.stdout, sys.stderr = Speaker("info"), Speaker("warning")
        try:
            value = called(source, facts)
            for speaker in (out, error):
                speaker.end()
        except BaseException as problem:
            return "e" + json.dumps(told(problem))
        try:
            return "v" + sendable(json.dumps(value, allow_nan=False, ensure_ascii=False, default=plain))
        except MemoryError:
            return "e" + json.dumps({"kind": "memory", "line": 0, "message": ""})
        except Exception as problem:
            message = f"What the code returned cannot be written as JSON: {worded(problem)}"
            return "e" + json.dumps(
                {"kind": "code", "line": 0, "message": sendable(message)[:_MESSAGE_CHARS]}
            )


def called(source: str, facts: dict[str, Any]) -> Any:
    """The code is the body of a function, so `return` ends it. Its lines keep their numbers."""
    body = ast.parse(source, CODE).body
    module = ast.parse("def code(input, need, fail, now, key): pass")
    future = [each for each in body if isinstance(each, ast.ImportFrom) and each.module == "__future__"]
    function = module.body[0]
    function.body = [each for each in body if each not in future] or function.body  # type: ignore[attr-defined]  # It is a `def`.
    module.body = [*future, *module.body]
    names = main_module().__dict__
    exec(compile(ast.fix_missing_locations(module), CODE, "exec"), names)  # noqa: S102  # This is the sandbox.
    given = facts["input"]
    now = dt.datetime.fromtimestamp(facts["now"], dt.UTC)
    return names["code"](given, lambda *a, **k: need(given, *a, **k), fail, now, facts["key"])


def main_module() -> types.ModuleType:
    """Where the code's classes are looked for by those who look, such as `dataclasses`."""
    module = sys.modules["__main__"] = types.ModuleType("__main__")
    module.__dict__["__builtins__"] = builtins
    return module


def need(given: Any, path: str, kind: type = object, default: Any = _MISSING) -> Any:
    """The value at `customer.email` or `lines.0.price` of the input; raises when it is missing or of another type."""
    value = given
    for part in path.split("."):
        if isinstance(value, dict) and part in value:
            value = value[part]
        elif isinstance(value, list) and part.isdecimal() and int(part) < len(value):
            value = value[int(part)]
        elif default is not _MISSING:
            return default
        else:
            raise InputError(f"the input has no {path}")
    fits = isinstance(value, (int, float) if kind is float else kind)
    if not fits or (isinstance(value, bool) and kind in (int, float)):
        raise InputError(f"{path} of the input is {type(value).__name__}, not {kind.__name__}")
    return value


def fail(message: object = "The code failed the step.", *, retry: bool = False) -> NoReturn:
    """End the attempt with this message; `retry` lets the step's retry policy try again."""
    raise Asked(str(message), retry=retry)


def no_sleep(_seconds: float) -> NoReturn:
    raise RuntimeError("code cannot sleep, its clock stands still: use a wait node")


def line_of(frame: Any) -> int:
    """The innermost line of the code that leads to this frame; 0: none does."""
    while frame is not None and frame.f_code.co_filename != CODE:
        frame = frame.f_back
    return frame.f_lineno if frame is not None else 0


def told(problem: BaseException) -> dict[str, Any]:
    if isinstance(problem, Asked):
        message = sendable(str(problem))[:_MESSAGE_CHARS]
        return {"kind": "asked", "line": 0, "message": message, "retry": problem.retry}
    if isinstance(problem, MemoryError) and "complex" not in str(
        problem
    ):  # The parser says so of too deep an expression.
        return {"kind": "memory", "line": failed_line(problem), "message": ""}
    return {
        "kind": "code",
        "line": failed_line(problem),
        "message": sendable(worded(problem))[:_MESSAGE_CHARS],
    }


def failed_line(problem: BaseException) -> int:
    if isinstance(problem, SyntaxError) and problem.filename == CODE:
        return problem.lineno or 0
    lines = [
        number
        for frame, number in traceback.walk_tb(problem.__traceback__)
        if frame.f_code.co_filename == CODE
    ]
    return lines[-1] if lines else 0


def worded(problem: BaseException) -> str:
    """`KeyError: 'email'`, as Python itself would say it."""
    kind = type(problem).__name__
    try:
        text = problem.msg if isinstance(problem, SyntaxError) else str(problem)
    except BaseException:
        text = "(its message cannot be shown)"
    return f"{kind}: {text}" if text else kind


def sendable(text: str) -> str:
    """The text without halves of characters, which UTF-8 cannot say."""
    return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")


def plain(value: Any) -> Any:
    """What JSON has no word for, in the word that is usual."""
    if isinstance(value, dt.date | dt.time):
        return value.isoformat()
    if isinstance(value, decimal.Decimal | uuid.UUID):
        return str(value)
    if isinstance(value, set | frozenset | collections.deque):
        return list(value)
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return dataclasses.asdict(value)
    if isinstance(value, enum.Enum):
        return value.value
    raise TypeError(f"there is a {type(value).__name__} in it")


def known_zones() -> set[str]:
    return {zone.key for zone in ZONES}


zoneinfo.available_timezones = known_zones
time.sleep = no_sleep  # type: ignore[assignment]  # It never returns.
logging.basicConfig(level=logging.DEBUG, handlers=[Lines()], format="%(message)s")
