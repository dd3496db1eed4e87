"""What code nodes promise to those who write code."""

import math
from datetime import UTC, datetime
from typing import Any

import pytest

from contracts.limits import LOG_LINES
from executor.sandbox.sandbox import Sandbox
from tests.executor.code import tried
from tests.executor.fakes import RUN, START, STEP

ORDERS = {"orders": [{"sku": "a", "total": 3}, {"sku": "b", "total": 250}], "customer": {"email": "a@b"}}
BOTH = pytest.mark.parametrize("language", ["python", "javascript"])


# --- Values in, values out


async def test_python_returns_what_it_makes_of_its_input(sandbox: Sandbox) -> None:
    code = "import statistics\nrich = [o for o in input['orders'] if o['total'] > 100]\nreturn rich, statistics.mean([1, 2])"
    done = await tried(sandbox, "python", code, ORDERS)
    assert done.output == [[{"sku": "b", "total": 250}], 1.5]


async def test_javascript_returns_what_it_makes_of_its_input(sandbox: Sandbox) -> None:
    code = "const totals = await Promise.all(input.orders.map(async (o) => o.total));\nreturn totals.toSorted((a, b) => b - a);"
    done = await tried(sandbox, "javascript", code, ORDERS)
    assert done.output == [250, 3]


@BOTH
@pytest.mark.parametrize(
    "value",
    [None, True, 0, -1.5, "ü\U0001f600\u2028\x00'\"\\", [], {}, {"__proto__": {"a": [None]}, "": 1}, [[[]]]],
)
async def test_a_value_comes_out_as_it_went_in(sandbox: Sandbox, language: str, value: Any) -> None:
    assert (await tried(sandbox, language, "return input", value)).output == value


@BOTH
async def test_code_that_returns_nothing_has_null_for_its_output(sandbox: Sandbox, language: str) -> None:
    assert (await tried(sandbox, language, "")).output is None


async def test_python_has_its_whole_language_and_most_of_its_library(sandbox: Sandbox) -> None:
    code = '''
from __future__ import annotations
import asyncio, csv, dataclasses, decimal, enum, hashlib, io, itertools, re, sys, tomllib, uuid, xml.etree.ElementTree as E, zlib

class Colour(enum.Enum):
    RED = "red"

class Base:
    def __init__(self): self.seen = []
    @property
    def size(self): return len(self.seen)

@dataclasses.dataclass
class Point(Base):
    x: int
    colour: Colour = Colour.RED

def numbers():
    yield from range(3)

text = """first
second"""
match input:
    case {"n": n}: pass
return {
    "version": sys.version_info[:2], "point": dataclasses.asdict(Point(n)) | {"colour": Colour.RED}, "numbers": list(numbers()),
    "text": re.sub(r"(\\w+)", lambda found: found[1].title(), text), "decimal": decimal.Decimal("0.1") * 3,
    "rows": list(csv.DictReader(io.StringIO("a,b\\n1,2"))), "sum": hashlib.sha256(zlib.compress(b"x")).hexdigest()[:4],
    "xml": E.fromstring("<a><b>1</b></a>").findtext("b"), "toml": tomllib.loads("a = 1"), "set": {1},
    "uuid": str(uuid.uuid5(uuid.NAMESPACE_DNS, "a")), "pairs": list(itertools.pairwise([1, 2, 3])), "idna": "ü".encode("idna"). decode(),
}
'''
    output = (await tried(sandbox, "python", code, {"n": 7})).output
    assert output["version"] == [3, 14]
    assert output["point"] == {"x": 7, "colour": "red"}
    assert (output["numbers"], output["text"], output["decimal"]) == ([0, 1, 2], "First\nSecond", "0.3")
    assert (output["rows"], output["xml"], output["toml"]) == ([{"a": "1", "b": "2"}], "1", {"a": 1})
    assert (output["set"], output["pairs"], output["idna"]) == ([1], [[1, 2], [2, 3]], "xn--tda")


async def test_what_python_has_no_json_for_is_written_in_the_usual_way(sandbox: Sandbox) -> None:
    code = "import datetime, decimal\nreturn [now, now.date(), decimal.Decimal('1.50'), {1}, '\\ud83d half']"
    output = (await tried(sandbox, "python", code, about={"scheduled_at": START.timestamp()})).output
    assert output == [
        "2026-11-20T12:00:00+00:00",
        "2026-11-20",
        "1.50",
        [1],
        "\N{REPLACEMENT CHARACTER} half",
    ]


async def test_python_knows_time_zones(sandbox: Sandbox) -> None:
    code = "import zoneinfo\nreturn [now.astimezone(zoneinfo.ZoneInfo(name)).isoformat() for name in input] + [zoneinfo.available_timezones() >= {*input}]"
    zones = ["Europe/Berlin", "America/New_York", "Australia/Lord_Howe", "UTC"]
    output = (await tried(sandbox, "python", code, zones, about={"scheduled_at": START.timestamp()})).output
    assert output == [
        "2026-11-20T13:00:00+01:00",
        "2026-11-20T07:00:00-05:00",
        "2026-11-20T23:00:00+11:00",
        "2026-11-20T12:00:00+00:00",
        True,
    ]


@BOTH
@pytest.mark.parametrize(
    ("path", "python", "javascript", "found"),
    [
        ("customer.email", "str", "'string'", "a@b"),
        ("orders.1.total", "int", "'number'", 250),
        ("orders", "list", "'array'", ORDERS["orders"]),
        ("customer", "dict", "'object'", ORDERS["customer"]),
        ("missing", "int, 10", "'number', 10", 10),
        ("orders.7.total", "int, None", "'number', null", None),
    ],
)
async def test_what_is_needed_is_looked_up_with_its_type(
    sandbox: Sandbox, language: str, path: str, python: str, javascript: str, found: Any
) -> None:
    kind = python if language == "python" else javascript
    assert (await tried(sandbox, language, f"return need('{path}', {kind})", ORDERS)).output == found


@BOTH
@pytest.mark.parametrize(
    ("path", "python", "javascript", "complaint"),
    [
        ("customer.phone", "str", "'string'", "the input has no customer.phone"),
        ("orders.5", "dict", "'object'", "the input has no orders.5"),
        ("customer.email", "int", "'number'", "customer.email of the input is str, not int"),
    ],
)
async def test_what_is_needed_and_not_there_is_named(
    sandbox: Sandbox, language: str, path: str, python: str, javascript: str, complaint: str
) -> None:
    kind = python if language == "python" else javascript
    code, message = (await tried(sandbox, language, f"\nneed('{path}', {kind})", ORDERS)).error
    wanted = (
        complaint
        if language == "python"
        else complaint.replace("str,", "string,").replace("not int", "not number")
    )
    assert (code, message) == ("code.failed", f"Line 2: InputError: {wanted}")


@BOTH
async def test_code_knows_its_time_and_its_key(sandbox: Sandbox, language: str) -> None:
    at = datetime(2026, 11, 20, 12, 30, 15, 250_000, tzinfo=UTC)
    code = "return [now, key]"
    output = (await tried(sandbox, language, code, about={"scheduled_at": at.timestamp()})).output
    assert (datetime.fromisoformat(output[0]), output[1]) == (at, f"{RUN}/{STEP}")


# --- What it says


async def test_python_s_output_becomes_lines_with_their_level_and_place(sandbox: Sandbox) -> None:
    code = (
        "import logging, sys\nprint('one', 2)\n\ndef inner():\n    print('three', file=sys.stderr)\ninner()\n"
        "logging.error('four %s', 4)\nprint('no end', end='')\nlogging.getLogger('mine').debug('five')\nprint('a\\nb')"
    )
    assert (await tried(sandbox, "python", code)).said == [
        ("info", 2, "one 2"),
        ("warning", 5, "three"),
        ("error", 7, "four 4"),
        ("debug", 9, "five"),
        ("info", 10, "no enda"),
        ("info", 10, "b"),
    ]


async def test_javascript_s_output_becomes_lines_with_their_level_and_place(sandbox: Sandbox) -> None:
    code = (
        "console.log('one', 2, {a: [1]}, null);\nconst inner = () => console.warn('two');\n\ninner();\n"
        "await 1;\nconsole.error(new TypeError('three'), 10n);\nconsole.debug('a\\nb'); console.info(undefined)"
    )
    assert (await tried(sandbox, "javascript", code)).said == [
        ("info", 1, 'one 2 {"a":[1]} null'),
        ("warning", 2, "two"),
        ("error", 6, "TypeError: three 10"),
        ("debug", 7, "a"),
        ("debug", 7, "b"),
        ("info", 7, "undefined"),
    ]


@BOTH
async def test_what_was_said_before_a_failure_is_kept(sandbox: Sandbox, language: str) -> None:
    say, wrong = ("print('before')", "1 / 0") if language == "python" else ("console.log('before')", "null.x")
    assert (await tried(sandbox, language, f"{say}\n{wrong}")).said == [("info", 1, "before")]


@BOTH
async def test_a_flood_of_lines_is_cut_and_says_so(sandbox: Sandbox, language: str) -> None:
    code = {
        "python": "for n in range(5_000): print(n, 'x' * 20_000 if n == 7 else '')\nreturn 1",
        "javascript": "for (let n = 0; n < 5000; n++) console.log(n, n === 7 ? 'x'.repeat(20000) : '')\nreturn 1",
    }[language]
    done = await tried(sandbox, language, code)
    assert done.output == 1
    assert len(done.lines) <= LOG_LINES
    bound, missing = (line.missing for line in done.lines[-3:-1])
    assert bound is not None
    assert missing is not None
    assert missing.why == "attempt"
    # Python's long line is two: its text is handed on before its end has come.
    assert len(done.said) + missing.lines == 5_000 + (language == "python")


# --- What goes wrong


@pytest.mark.parametrize(
    ("language", "code", "message"),
    [
        ("python", "a = 1\n\nraise ValueError('not so')", "Line 3: ValueError: not so"),
        (
            "python",
            "def f(x):\n    return 1 / x\n\nreturn f(0)",
            "Line 2: ZeroDivisionError: division by zero",
        ),
        ("python", "import json\nreturn json.loads('{')", "Line 2: JSONDecodeError: Expecting property name"),
        ("python", "x = 1\ny = = 2", "Line 2: SyntaxError: invalid syntax"),
        ("python", "if True:\nx = 1", "Line 2: IndentationError: expected an indented block"),
        ("python", "return {}['nothing']", "Line 1: KeyError: 'nothing'"),
        ("python", "import sys\nsys.exit(3)", "Line 2: SystemExit: 3"),
        ("python", "import numpy", "Line 1: ModuleNotFoundError: No module named 'numpy'"),
        ("python", "import time\ntime.sleep(3)", "Line 2: RuntimeError: code cannot sleep"),
        ("python", "return object()", "What the code returned cannot be written as JSON: TypeError"),
        ("python", "return float('nan')", "What the code returned cannot be written as JSON: ValueError"),
        ("python", "def f(): return f()\nf()", "Line 1: RecursionError: maximum recursion depth exceeded"),
        (
            "python",
            "x = []\nx.append(x)\nreturn x",
            "cannot be written as JSON: ValueError: Circular reference",
        ),
        ("javascript", "const a = 1;\n\nthrow new TypeError('not so')", "Line 3: TypeError: not so"),
        (
            "javascript",
            "const f = (x) => {\n  return x.y.z;\n};\nawait 1;\nreturn f({})",
            "Line 2: TypeError: cannot read",
        ),
        ("javascript", "const x = 1;\nconst y = = 2;", "Line 2: SyntaxError: unexpected token"),
        ("javascript", "const x = 1;\nconst x = 2;", "Line 2: SyntaxError: invalid redefinition"),
        ("javascript", "return nothing", "Line 1: ReferenceError: nothing is not defined"),
        ("javascript", "return require('fs')", "Line 1: ReferenceError: require is not defined"),
        ("javascript", "throw {reason: 1}", 'Uncaught {"reason":1}'),
        ("javascript", "const x = {}; x.x = x; return x", "cannot be written as JSON: circular reference"),
        ("javascript", "return 10n", "cannot be written as JSON: "),
        ("javascript", "await new Promise(() => {})", "The code waits for something that will never happen."),
        ("javascript", "return 1 }); (() => {", "SyntaxError: the code closes a brace that it did not open"),
        (
            "javascript",
            "function f() { return f() + 1 }\nreturn f()",
            "Line 1: RangeError: Maximum call stack size",
        ),
    ],
)
async def test_an_error_is_told_with_the_user_s_own_line(
    sandbox: Sandbox, language: str, code: str, message: str
) -> None:
    broken = await tried(sandbox, language, code)
    assert broken.error[0] == "code.failed"
    assert message in broken.error[1]
    assert broken.error[1].startswith(("Line", "What", "Uncaught", "The code", "SyntaxError", "TypeError"))
    assert not broken.retryable


@BOTH
@pytest.mark.parametrize("again", [True, False])
async def test_code_may_fail_its_step_and_say_whether_to_try_again(
    sandbox: Sandbox, language: str, again: bool
) -> None:
    retry = f"retry={again}" if language == "python" else f"{{retry: {str(again).lower()}}}"
    broken = await tried(sandbox, language, f"fail('No stock today', {retry})")
    assert broken.error == ("code.failed", "No stock today")
    assert broken.retryable is again


@pytest.mark.parametrize(
    ("language", "code", "complaint"),
    [
        ("python", "while True: pass", "processor time"),
        ("python", "import re\nre.match(r'(a+)+$', 'a' * 40 + 'b')", "processor time"),
        ("python", "return 10 ** (10 ** 8)", "processor time"),
        (
            "python",
            "while True:\n    try:\n        while True: pass\n    except BaseException: pass",
            "processor time",
        ),
        ("python", "while True: print('x' * 1000)", "processor time"),
        ("python", "x = []\nwhile True: x.append('a' * 1_000_000)", "MiB of memory"),
        ("python", "x = bytearray(1 << 30)", "MiB of memory"),
        ("python", "import os\nreturn len(os.urandom(1 << 30))", "MiB of memory"),
        (
            "python",
            "import zlib\nreturn len(zlib.decompress(zlib.compress(bytes(40 << 20)) , bufsize=1 << 28))",
            "MiB of memory",
        ),
        ("python", "x = []\nfor _ in range(10 ** 5): x = [x]\nreturn x", "too deeply"),
        ("python", "import sys\nsys.setrecursionlimit(10 ** 7)\ndef f(): return f()\nf()", "too deeply"),
        ("python", "import os\nos._exit(3)", "tried to end its process"),
        ("python", "import os\nos.abort()", "no room for"),
        ("javascript", "while (true) {}", "processor time"),
        ("javascript", "while (true) await 1", "processor time"),
        ("javascript", "const f = () => Promise.resolve().then(f); await f()", "processor time"),
        ("javascript", "return /(a+)+$/.test('a'.repeat(40) + 'b')", "processor time"),
        ("javascript", "while (true) console.log('x'.repeat(1000))", "processor time"),
        ("javascript", "const a = []; while (true) a.push(new Array(1e5).fill(1))", "MiB of memory"),
        ("javascript", "new ArrayBuffer(2 ** 30)", "MiB of memory"),
        ("javascript", "let a = {}; for (let i = 0; i < 1e5; i++) a = {a}; return a", "too deeply"),
    ],
)
async def test_what_takes_too_much_is_stopped_and_says_of_what(
    sandbox: Sandbox, language: str, code: str, complaint: str
) -> None:
    seconds = (
        0.5 if complaint == "processor time" else 10.0
    )  # On a slow machine another bound is not reached so soon.
    broken = await tried(sandbox, language, code, processor_s=seconds, memory_mib=64)
    assert broken.error[0] == "code.limit", broken.error
    assert complaint in broken.error[1]
    assert not broken.retryable


@BOTH
async def test_a_result_that_is_too_large_is_refused(sandbox: Sandbox, language: str) -> None:
    code = {"python": "return 'a' * (9 << 20)", "javascript": "return 'a'.repeat(9 << 20)"}[language]
    broken = await tried(sandbox, language, code)
    assert broken.error == ("code.limit", "What the code returned is larger than 8 MiB.")


@pytest.mark.parametrize(
    ("language", "code"),
    [
        ("python", "x = eval('(' * 3000 + ')' * 3000)"),
        ("python", "x = eval('-' * 100_000 + '1')"),
        ("python", "import json\njson.loads('[' * 100_000)"),
        ("python", "return str(10 ** 5000)"),
        ("python", "return 'a' * 10 ** 10"),
        ("python", "return sorted(range(10 ** 8))"),
        ("python", "class A:\n    def __repr__(self): return repr(self)\nreturn repr(A())"),
        ("python", "class A(Exception):\n    def __str__(self): raise self\nraise A"),
        ("python", "class A(Exception):\n    def __str__(self): return 'x' * 10_000_000\nraise A"),
        ("javascript", "return JSON.parse('['.repeat(100000))"),
        ("javascript", "return eval('('.repeat(100000))"),
        ("javascript", "return 10n ** 100000000n"),
        ("javascript", "return 'a'.repeat(2 ** 30)"),
        ("javascript", "throw new Error('x'.repeat(10_000_000))"),
        ("javascript", "throw new Proxy(new Error('x'), {get() { throw 1 }})"),
        ("javascript", "Error.prototype.toString = () => { while (true) {} }; throw new Error('x')"),
    ],
)
async def test_a_bomb_is_an_error_of_the_code_and_of_nothing_else(
    sandbox: Sandbox, language: str, code: str
) -> None:
    broken = await tried(sandbox, language, code, processor_s=0.5, memory_mib=64)
    assert broken.error[0] in ("code.failed", "code.limit"), broken.error
    assert len(broken.error[1]) <= 2_000
    assert (await tried(sandbox, language, "return 1")).output == 1


@BOTH
async def test_what_is_nested_deeper_than_a_store_takes_is_refused(sandbox: Sandbox, language: str) -> None:
    code = {
        "python": "x = []\nfor _ in range(100): x = [x]\nreturn x",
        "javascript": "let x = []; for (let i = 0; i < 100; i++) x = [x]; return x",
    }[language]
    assert (await tried(sandbox, language, code)).error == (
        "code.failed",
        "What the code returned is nested deeper than 64.",
    )


# --- The same attempt computes the same

CHANCE = {
    "python": (
        "import datetime, os, random, secrets, time, uuid\n"
        "return [random.random(), random.sample(range(100), 5), os.urandom(8).hex(), secrets.token_hex(4), str(uuid.uuid4()),\n"
        "  str(uuid.uuid1()), time.time(), time.monotonic(), time.perf_counter_ns(), str(datetime.datetime.now()), time.time_ns(),\n"
        "  list({'a', 'b', 'c', 'd'}), hash('x'), id(object()), random.SystemRandom().random()]"
    ),
    "javascript": "return [Math.random(), Math.random(), Date.now(), new Date(), performance?.now?.(), new Date().getTimezoneOffset()]",
}


@BOTH
async def test_the_same_attempt_computes_the_same_also_elsewhere(
    sandbox: Sandbox, language: str, engines: Any
) -> None:
    once = await tried(sandbox, language, CHANCE[language])
    again = await tried(sandbox, language, CHANCE[language])
    async with Sandbox(engines, at_once=1) as elsewhere:
        there = await tried(elsewhere, language, CHANCE[language])
    assert once.output == again.output == there.output


@BOTH
async def test_another_attempt_has_other_luck(sandbox: Sandbox, language: str) -> None:
    code = {
        "python": "import random, os\nreturn [random.random(), os.urandom(8).hex()]",
        "javascript": "return [Math.random()]",
    }
    outputs = [
        (await tried(sandbox, language, code[language], about=about)).output
        for about in ({}, {"attempt": 2}, {"run": "run-2"}, {"step": "call2"}, {"key": "other"})
    ]
    for values in zip(*outputs, strict=True):
        assert len(set(values)) == len(outputs)


async def test_the_clock_stands_at_the_attempt_s_time_and_never_goes_back(sandbox: Sandbox) -> None:
    code = "import time\nreturn [time.time() for _ in range(100)]"
    times = (await tried(sandbox, "python", code, about={"scheduled_at": START.timestamp()})).output
    assert times == sorted(times)
    assert math.isclose(times[0], START.timestamp(), abs_tol=0.01)
    assert times[-1] - times[0] < 0.01


@BOTH
async def test_nothing_is_left_for_the_next_one(sandbox: Sandbox, language: str) -> None:
    leave, look = {
        "python": (
            "import builtins, json, sys\nbuiltins.left = 1\nsys.modules['left'] = json\njson.dumps = None\nreturn 1",
            "import builtins, json, sys\nreturn [hasattr(builtins, 'left'), 'left' in sys.modules, json.dumps(1)]",
        ),
        "javascript": (
            "globalThis.left = 1; Object.prototype.left = 1; return 1",
            "return ['left' in globalThis, ({}).left === 1, '1']",
        ),
    }[language]
    await tried(sandbox, language, leave)
    assert (await tried(sandbox, language, look)).output == [False, False, "1"]
