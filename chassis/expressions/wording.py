"""What the engine says went wrong, in words for builders."""

import re
from typing import Final

from chassis.expressions.faults import FaultCode, Flaw

_MISTAKE: Final = re.compile(r"ERROR: <input>:(\d+):(\d+): (.*)")
_CODE: Final = re.compile(r"^[A-Z_]+: | \[[A-Z_]+\]$")
_KINDS: Final = {
    "int64": "a whole number",
    "int": "a whole number",
    "uint64": "an unsigned number",
    "uint": "an unsigned number",
    "double": "a number",
    "string": "a text",
    "bytes": "bytes",
    "bool": "true or false",
    "null_type": "null",
    "null": "null",
    "list": "a list",
    "map": "an object",
    "dyn": "anything",
    "google.protobuf.Timestamp": "a moment",
    "timestamp": "a moment",
    "google.protobuf.Duration": "a length of time",
    "duration": "a length of time",
}
_OPERATOR: Final = re.compile(r"_?([^_\w@]+|in)_?")


def flaws(said: str, source: str) -> list[Flaw]:
    found = [
        Flaw(code=_kind_of(message), message=_compile_sentence(message), offset=_offset(source, line, column))
        for line, column, message in ((int(one[1]), int(one[2]), one[3]) for one in _MISTAKE.finditer(said))
    ]
    if not found:
        message = "the expression is nested too deep" if "recursion" in said else _CODE.sub("", said)
        found = [Flaw(code="limit" if "recursion" in said else "syntax", message=message)]
    return sorted(dict.fromkeys(found), key=lambda flaw: flaw.offset)


def _kind_of(message: str) -> FaultCode:
    if "recursion depth" in message:
        return "limit"
    return "type" if message.startswith("found no matching") else "syntax"


def _offset(source: str, line: int, column: int) -> int:
    lines = source.split("\n")
    if line > len(lines):
        return 0
    return min(sum(len(one) + 1 for one in lines[: line - 1]) + column - 1, len(source))


_OVERLOAD: Final = re.compile(r"found no matching overload for '(.+?)' applied to '(.*?)\((.*)\)'")
_NO_OVERLOAD: Final = re.compile(r"No matching overloads found : (?:\((.*?)\)\.)?([^\s(]+)\((.*)\)")


def _compile_sentence(message: str) -> str:
    if "recursion depth" in message:
        return "the expression is nested too deep, or too many terms stand in one chain"
    if found := _OVERLOAD.match(message):
        return _cannot_take(found[1], ", ".join(filter(None, (found[2].rstrip("."), found[3]))))
    message = message.removeprefix("Syntax error: ")
    if found := re.match(r"(?:mismatched|extraneous) input '(.*?)' expecting", message):
        return (
            "the expression ends too early" if found[1] == "<EOF>" else f"`{found[1]}` does not belong here"
        )
    if found := re.match(r"missing '(.*?)' at", message):
        return f"`{found[1]}` is missing here"
    if found := re.match(r"token recognition error at: '(.*)'", message, re.DOTALL):
        return f"`{found[1][:20]}` cannot be read"
    return message


def _cannot_take(function: str, types: str) -> str:
    operator = _OPERATOR.fullmatch(function)
    shown = operator[1] if operator else {"_?_:_": "? :", "_[_]": "[ ]", "@in": "in"}.get(function, function)
    kinds = [_KINDS.get(one.split("(")[0], one) for one in re.split(r", (?![^(]*\))", types)]
    return f"`{shown}` cannot take {' and '.join(kinds)}"


def sentence(said: str) -> str:
    said = _CODE.sub("", _CODE.sub("", said))
    if found := _NO_OVERLOAD.match(said):
        return _cannot_take(found[2], ", ".join(filter(None, (found[1], found[3]))))
    if found := re.match(r'Key not found in map : "?(.*?)"?$', said):
        return f"`{found[1]}` is not there"
    for known, sentence in _SENTENCES.items():
        if known in said:
            return sentence
    return said


_SENTENCES: Final = {
    "divide by zero": "division by zero",
    "modulus by zero": "division by zero",
    "Iteration budget exceeded": "the loops take more than 10,000 rounds",
    "Applying SELECT to non-message type": "only an object has fields",
    "integer overflow": "the whole number does not fit into 64 bits",
}
