"""Expressions that were written to break something, with what becomes of each; run as a script, it tries them all.

As a script it bounds its own memory and processor time, so that a crash or a hang ends this process and no other.
"""

import json
import resource
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final

from msgspec import Struct

from chassis.expressions import Apart, Context, Language
from chassis.expressions.faults import Failed
from chassis.expressions.program import Program

MEMORY: Final = 1 << 30
SECONDS: Final = 20

FLAW, FAILED, APART = "flaw", "failed", "apart"


class Case(Struct, frozen=True):
    """An expression, what it is given, and the outcome: one of the three words, or the value as JSON."""

    source: str
    outcome: str
    trigger: Callable[[], object] = dict


def _numbers() -> object:
    return {"l": list(range(50)), "n": 2**63 - 1}


def _text() -> object:
    return {"s": "a" * 5_000}


def _long_text() -> object:
    return {"s": "a" * 900_000}


def _objects() -> object:
    return {"l": [{"n": number, "t": "x" * 20} for number in range(9_000)], "x": {"__class__": 1}}


CASES: Final[Mapping[str, Case]] = {
    # --- depth and length
    "parentheses 200": Case("(" * 200 + "1" + ")" * 200, FLAW),
    "parentheses 2,000": Case("(" * 2_000 + "1" + ")" * 2_000, FLAW),
    "parentheses 20,000": Case("(" * 20_000 + "1" + ")" * 20_000, FLAW),
    "open parentheses": Case("(" * 4_000, FLAW),
    "not 4,000": Case("!" * 4_000 + "true", "true"),
    "not 50,000": Case("!" * 50_000 + "true", FLAW),
    "minus 4,000": Case("-" * 4_000 + "trigger.n", "9223372036854775807", _numbers),
    "plus 2,000": Case("+".join(["1"] * 2_000), FLAW),
    "plus 20,000": Case("+".join(["1"] * 20_000), FLAW),
    "and 800": Case("&&".join(["true"] * 680), FLAW),
    "or 400": Case("||".join(["false"] * 400), "false"),
    "choices 300": Case("true ? 1 : " * 300 + "2", FLAW),
    "choices 5,000": Case("true?1:" * 5_000 + "2", FLAW),
    "conditions 100": Case("(" * 100 + "true" + " ? true : false)" * 100, FLAW),
    "lists 2,000": Case("[" * 2_000 + "]" * 2_000, FLAW),
    "lists 5,000": Case("[" * 5_000 + "]" * 5_000, FLAW),
    "maps 800": Case("{1:" * 800 + "1" + "}" * 800, FLAW),
    "calls 600": Case("size(" * 600 + "'a'" + ")" * 600, FLAW),
    "fields 2,000": Case("trigger" + ".a" * 2_000, FLAW),
    "indexes 1,300": Case("trigger" + "[0]" * 1_300, FLAW),
    "elements 2,000": Case("[" + ",".join(["1"] * 2_000) + "]", FLAW),
    "a long name": Case("a" * 4_000, FLAW),
    "a long text": Case("'" + "a" * 4_000 + "'.size()", "4000"),
    "a long number": Case("1" * 4_000, FLAW),
    "a long fraction": Case("0." + "1" * 4_000 + " > 0.1", "true"),
    "a large exponent": Case("1e4000 > 0.0", "true"),
    "garbage": Case("? : ( ] } " * 300, FLAW),
    "quotes": Case("'" * 4_001, FLAW),
    "comments": Case("//\n" * 1_300 + "1", "1"),
    "macros in a row": Case("[1]" + ".map(v, v)" * 300, FLAW),
    "eleven loops": Case("[1]" + ".map(v, v)" * 11, FLAW),
    "ten loops": Case("[1]" + ".map(v, v)" * 10, "[1]"),
    "bindings 25": Case("cel.bind(a, 1, " * 25 + "a" + ")" * 25, "1"),
    # --- rounds
    "50^3": Case("trigger.l.map(a, trigger.l.map(b, trigger.l.map(c, c))).size()", APART, _numbers),
    "50^4": Case(
        "trigger.l.map(a, trigger.l.map(b, trigger.l.map(c, trigger.l.map(d, d)))).size()", APART, _numbers
    ),
    "50^5": Case(
        "trigger.l.all(a, trigger.l.all(b, trigger.l.all(c, trigger.l.all(d, trigger.l.all(e, true)))))",
        FLAW,
        _numbers,
    ),
    "flat 9,000": Case("trigger.l.all(x, x.n >= 0)", "true", _objects),
    "flat 10,001": Case("trigger.l.all(x, true)", FAILED, lambda: {"l": [1] * 10_001}),
    "gathering 7,000 numbers": Case("trigger.l.map(x, x).size()", "7000", lambda: {"l": list(range(7_000))}),
    "names 9,000": Case(
        "trigger.m.map(k, k).size()", FAILED, lambda: {"m": {str(n): n for n in range(9_000)}}
    ),
    # --- growth
    "doubling 5 kB": Case("[trigger.s]" + ".map(v, v + v)" * 10 + "[0].size()", "5120000", _text),
    "doubling 900 kB": Case("[trigger.s]" + ".map(v, v + v)" * 10 + "[0].size()", APART, _long_text),
    "doubling by names": Case(
        "cel.bind(a, trigger.s + trigger.s, cel.bind(b, a + a, cel.bind(c, b + b, c + c + c + c))).size()",
        APART,
        _long_text,
    ),
    "doubling lists": Case("[[1]]" + ".map(v, v + v)" * 10 + "[0].size()", "1024"),
    "quadratic objects": Case("trigger.l.distinct().size()", APART, _objects),
    "quadratic sets": Case("sets.equivalent(trigger.l, trigger.l)", APART, _objects),
    "quadratic search": Case("trigger.l.filter(x, x in trigger.l).size()", APART, _objects),
    "a text by itself": Case("trigger.s.replace('a', trigger.s).size()", APART, _text),
    "a text by itself twice": Case(
        "cel.bind(t, trigger.s.replace('a', trigger.s), t.replace('a', trigger.s)).size()", APART, _text
    ),
    "between every two": Case("trigger.s.split('').join(trigger.s).size()", APART, _text),
    "digits": Case("'" + "%.1000f" * 500 + "'.format([" + ",".join(["1.0"] * 100) + "]).size()", FAILED),
    "too many digits": Case("'%.2000000000f'.format([1.0])", FAILED),
    "wide": Case("'%2000000000d'.format([1])", FAILED),
    "a long result": Case("trigger.s + trigger.s", FAILED, _long_text),
    "a wide result": Case("trigger.l.map(x, [x, x, x, x])", APART, _objects),
    "characters": Case("trigger.s.split('')", APART, _long_text),
    # --- patterns
    "redos": Case("(trigger.s + '!').matches('^(a+)+$')", "false", _text),
    "redos by letters": Case("trigger.s.matches('(x+x+)+y')", "false", _text),
    "a million repetitions": Case("trigger.s.matches('(a{1,1000}){1,1000}')", APART, _text),
    "many repetitions": Case("trigger.s.matches('" + "a{1,1000}" * 400 + "')", APART, _text),
    "a thousand alphabets": Case("trigger.s.matches('" + r"\\pL" * 900 + "')", APART, _text),
    "a pattern of a stranger": Case(
        "trigger.s.matches(trigger.p)", APART, lambda: {"s": "a" * 500, "p": "(a{1,1000}){1,1000}"}
    ),
    "no pattern": Case("trigger.s.matches('[')", FAILED, _text),
    # --- arithmetic
    "overflow": Case("trigger.n + 1", FAILED, _numbers),
    "overflow down": Case("-trigger.n - 2", FAILED, _numbers),
    "overflow by a sign": Case("-(-9223372036854775808)", FAILED),
    "overflow by a quotient": Case("(-trigger.n - 1) / -1", FAILED, _numbers),
    "remainder of the least": Case("(-trigger.n - 1) % -1", FAILED, _numbers),
    "quotient by zero": Case("1 / 0", FAILED),
    "remainder by zero": Case("1 % 0", FAILED),
    "no number": Case("double('NaN')", FAILED),
    "no number equals itself": Case("double('NaN') == double('NaN')", "false"),
    "infinite": Case("1e308 * 10", FAILED),
    "too large to be whole": Case("int(1e300)", FAILED),
    "negative and unsigned": Case("uint(-1)", FAILED),
    "half a character by index": Case("'😀'.charAt(5)", FAILED),
    "an index far away": Case("[1][9223372036854775807]", FAILED),
    "an index before": Case("[1][-1]", FAILED),
    "a part far away": Case("'abc'.substring(-5, 900)", FAILED),
    "a slice far away": Case("[1, 2].slice(-3, 9223372036854775807)", FAILED),
    "flattened deeper": Case("[[1]].flatten(9223372036854775807)", "[1]"),
    "flattened before": Case("[[1]].flatten(-1)", FAILED),
    "shifted far": Case("math.bitShiftLeft(1, 9223372036854775807)", "0"),
    "shifted back": Case("math.bitShiftLeft(1, -1)", FAILED),
    # --- time
    "a long time": Case("duration('1000000000000h')", FAILED),
    "after the end of time": Case("timestamp('9999-12-31T23:59:59Z') + duration('10000h')", FAILED),
    "before its beginning": Case("timestamp('0001-01-01T00:00:00Z') - duration('1s')", FAILED),
    "the year 10000": Case("timestamp(253402300800)", FAILED),
    "a zone that is a file": Case("timestamp(0).getHours('../../../etc/passwd')", FAILED),
    "a zone that is absolute": Case("timestamp(0).getHours('/etc/passwd')", FAILED),
    "a zone of nowhere": Case("timestamp(0).getHours('Nowhere/Atlantis')", FAILED),
    # --- escapes
    "dunder": Case("trigger.x.__class__", "1", _objects),
    "dunder of a text": Case("'a'.__class__", FLAW),
    "dunder of a root": Case("trigger.__class__.__bases__", FAILED),
    "imports": Case("__import__('os').system('id')", FLAW),
    "an internal variable": Case("@0", FLAW),
    "an internal function": Case("@in_order([1])", FLAW),
    "an operator by name": Case("_+_(1, 2)", FLAW),
    "an accumulator": Case("[1].map(x, @result)", FLAW),
    "a message": Case("google.protobuf.Any{type_url: 'x'}", FLAW),
    "a type": Case("type(type(1))", FAILED),
    "types in a list": Case("[int, [type('a')]]", FAILED),
    "optional": Case("optional.of(1)", FLAW),
    "optional field": Case("trigger.?x", FLAW),
    "two variables": Case("{'a': 1}.transformMap(k, v, v)", FLAW),
    "a range": Case("lists.range(1000000000).size()", FLAW),
    "the clock": Case("now()", FLAW),
    "chance": Case("math.random()", FLAW),
    "a variable like a root": Case("[1].map(vars, vars)", FLAW),
    # --- values
    "null everywhere": Case("[null, {'a': null}].map(x, x)", '[null, {"a": null}]'),
    "null plus": Case("null + 1", FLAW),
    "an odd name": Case("{null: 1}", FAILED),
    "a name of bytes": Case("{b'a': 1}", FAILED),
    "a fraction as name": Case("{1.5: 1}", FAILED),
    "the same name twice": Case("{'a': 1, 'a': 2}", FAILED),
    "a surrogate": Case("'\\ud800'", FLAW),
    "bytes that are no text": Case("string(b'\\xff')", FAILED),
    "no base64": Case("base64.decode('%%%')", FAILED),
    "a NUL": Case("'a\\u0000b'", '"a\\u0000b"'),
    "a secret": Case("{'$secret': 'prod'}", FAILED),
    "mixed to sort": Case("[1, 'a', null].sort()", FAILED),
    "mixed to sort at run": Case("[dyn(1), dyn('a')].sort()", FAILED),
    "objects to sort": Case("trigger.l.sort()", FAILED, lambda: {"l": [{"a": 1}, {"a": 2}]}),
    "lists to join": Case("[[1]].join(',')", FLAW),
    "numbers to join": Case("trigger.l.join(',')", FAILED, _numbers),
    "an error in a loop": Case("trigger.l.map(x, 1 / x)", FAILED, _numbers),
    "an error absorbed": Case("trigger.l.exists(x, 1 / x > 0)", "true", _numbers),
}


def outcome(case: Case, language: Language) -> str:
    program = language.program(case.source)
    if not isinstance(program, Program):
        return FLAW
    try:
        value = program.evaluate(Context.from_roots(trigger=case.trigger()))
    except Failed:
        return FAILED
    except Apart:
        return APART
    return json.dumps(value)


def main() -> None:
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    resource.setrlimit(resource.RLIMIT_CPU, (SECONDS, SECONDS))
    language = Language()
    found: dict[str, Any] = {name: outcome(case, language) for name, case in CASES.items()}
    # Not ru_maxrss: that remembers the process which started this one.
    status = Path("/proc/self/status").read_text()
    found["peak"] = int(status.split("VmHWM:")[1].split()[0]) // 1024
    json.dump(found, sys.stdout)


if __name__ == "__main__":
    main()
