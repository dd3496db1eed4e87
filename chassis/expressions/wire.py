"""The engine's own form of a tree, the `cel.expr` protobuf messages, read and written.

Reading what the engine parsed gives references and bounds the grammar that evaluation uses, so the two cannot disagree;
writing lets a tree be changed before it is evaluated. Only the fields named below matter; others are skipped.
"""

import struct
from collections.abc import Iterator
from typing import Final, TypeAlias

from chassis.expressions.tree import (
    Call,
    Comprehension,
    Const,
    Entry,
    Expr,
    Ident,
    ListLiteral,
    MapLiteral,
    Scalar,
    Select,
    Tree,
)


class Malformed(ValueError):
    """The bytes are not a parsed expression of the engine this module knows."""


# --- reading -------------------------------------------------------------------------------------------------------

Field: TypeAlias = tuple[int, int | bytes]


def read(serialized: bytes) -> Tree:
    """Read what the engine's `serialize()` gave: an `Any` around a parsed or a checked expression."""
    try:
        outer = dict(_fields(serialized))
        checked = _text(outer[1]).endswith("CheckedExpr")
        root, info = b"", b""
        for number, value in _fields(_bytes(outer[2])):
            if number == (4 if checked else 2):
                root = _bytes(value)
            elif number == (5 if checked else 3):
                info = _bytes(value)
        return Tree(root=_expr(root), positions=_positions(info))
    except (KeyError, IndexError, UnicodeDecodeError, struct.error) as error:
        raise Malformed(str(error)) from error


def _varint(data: bytes, at: int) -> tuple[int, int]:
    value, shift = 0, 0
    while True:
        byte = data[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, at
        shift += 7


def _fields(data: bytes) -> Iterator[Field]:
    at = 0
    while at < len(data):
        tag, at = _varint(data, at)
        match tag & 7:
            case 0:
                value, at = _varint(data, at)
                yield tag >> 3, value
            case 1:
                yield tag >> 3, data[at : at + 8]
                at += 8
            case 2:
                length, at = _varint(data, at)
                yield tag >> 3, data[at : at + length]
                at += length
            case kind:
                raise Malformed(f"wire type {kind}")


def _bytes(value: int | bytes) -> bytes:
    if isinstance(value, int):
        raise Malformed("a number where a message belongs")
    return value


def _text(value: int | bytes) -> str:
    return _bytes(value).decode()


def _integer(value: int | bytes) -> int:
    """An int64, which the wire carries as its two's complement."""
    if isinstance(value, bytes):
        raise Malformed("a message where a number belongs")
    return value - (1 << 64) if value >> 63 else value


def _positions(info: bytes) -> dict[int, int]:
    found: dict[int, int] = {}
    for number, value in _fields(info):
        if number == 4:
            entry = dict(_fields(_bytes(value)))
            found[_integer(entry.get(1, 0))] = _integer(entry.get(2, 0))
    return found


def _expr(data: bytes) -> Expr:
    identity, kind, body = 0, 0, b""
    for number, value in _fields(data):
        if number == 2:
            identity = _integer(value)
        else:
            kind, body = number, _bytes(value)
    match kind:
        case 3:
            return _const(identity, body)
        case 4:
            return Ident(id=identity, name=_text(dict(_fields(body)).get(1, b"")))
        case 5:
            fields = dict(_fields(body))
            return Select(
                id=identity,
                operand=_expr(_bytes(fields[1])),
                field=_text(fields.get(2, b"")),
                test_only=bool(fields.get(3, 0)),
            )
        case 6:
            return _call(identity, body)
        case 7:
            return _list(identity, body)
        case 8:
            return _map(identity, body)
        case 9:
            return _comprehension(identity, body)
        case _:
            raise Malformed(f"an expression of kind {kind}")


def _const(identity: int, body: bytes) -> Const:
    kind, value = next(_fields(body), (1, 0))
    read_value: Scalar
    match kind:
        case 1:
            read_value = None
        case 2:
            read_value = bool(value)
        case 3:
            read_value = _integer(value)
        case 4:
            read_value = value
        case 5:
            (read_value,) = struct.unpack("<d", _bytes(value))
        case 6:
            read_value = _text(value)
        case 7:
            read_value = _bytes(value)
        case _:
            raise Malformed(f"a literal of kind {kind}")
    return Const(id=identity, kind=kind, value=read_value)


def _call(identity: int, body: bytes) -> Call:
    target: Expr | None = None
    function = ""
    args: list[Expr] = []
    for number, value in _fields(body):
        match number:
            case 1:
                target = _expr(_bytes(value))
            case 2:
                function = _text(value)
            case 3:
                args.append(_expr(_bytes(value)))
    return Call(id=identity, function=function, target=target, args=tuple(args))


def _list(identity: int, body: bytes) -> ListLiteral:
    elements: list[Expr] = []
    for number, value in _fields(body):
        if number == 2:
            raise Malformed("optional elements")
        elements.append(_expr(_bytes(value)))
    return ListLiteral(id=identity, elements=tuple(elements))


def _map(identity: int, body: bytes) -> MapLiteral:
    message = ""
    entries: list[Entry] = []
    for number, value in _fields(body):
        if number == 1:
            message = _text(value)
        elif number == 2:
            parts = dict(_fields(_bytes(value)))
            if parts.get(5):
                raise Malformed("optional entries")
            key = (
                _expr(_bytes(parts[3]))
                if 3 in parts
                else Const(id=_integer(parts[1]), kind=6, value=_text(parts.get(2, b"")))
            )
            entries.append(Entry(id=_integer(parts[1]), key=key, value=_expr(_bytes(parts[4]))))
    return MapLiteral(id=identity, message=message, entries=tuple(entries))


def _comprehension(identity: int, body: bytes) -> Comprehension:
    parts = dict(_fields(body))
    if 8 in parts:
        raise Malformed("a comprehension with two variables")
    return Comprehension(
        id=identity,
        variable=_text(parts.get(1, b"")),
        range=_expr(_bytes(parts[2])),
        accumulator=_text(parts.get(3, b"")),
        start=_expr(_bytes(parts[4])),
        condition=_expr(_bytes(parts[5])),
        step=_expr(_bytes(parts[6])),
        result=_expr(_bytes(parts[7])),
    )


# --- writing -------------------------------------------------------------------------------------------------------

_PARSED: Final = b"type.googleapis.com/cel.expr.ParsedExpr"


def write(root: Expr) -> bytes:
    """The bytes from which the engine's `deserialize()` makes a program; positions are left behind."""
    return _message(1, _PARSED) + _message(2, _message(2, _written(root)))


def _number(value: int) -> bytes:
    out = bytearray()
    value &= (1 << 64) - 1
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


def _message(field: int, body: bytes) -> bytes:
    return _number(field << 3 | 2) + _number(len(body)) + body


def _scalar(field: int, value: int) -> bytes:
    return _number(field << 3) + _number(value)


def _written(expr: Expr) -> bytes:
    match expr:
        case Const():
            body = _message(3, _literal(expr))
        case Ident():
            body = _message(4, _message(1, expr.name.encode()))
        case Select():
            body = _message(5, _selected(expr))
        case Call():
            target = b"" if expr.target is None else _message(1, _written(expr.target))
            args = b"".join(_message(3, _written(arg)) for arg in expr.args)
            body = _message(6, target + _message(2, expr.function.encode()) + args)
        case ListLiteral():
            body = _message(7, b"".join(_message(1, _written(one)) for one in expr.elements))
        case MapLiteral():
            body = _message(8, b"".join(_message(2, _entry(one)) for one in expr.entries))
        case Comprehension():
            body = _message(9, _loop(expr))
    return _scalar(2, expr.id) + body


def _selected(expr: Select) -> bytes:
    body = _message(1, _written(expr.operand)) + _message(2, expr.field.encode())
    return body + _scalar(3, 1) if expr.test_only else body


def _entry(entry: Entry) -> bytes:
    return _scalar(1, entry.id) + _message(3, _written(entry.key)) + _message(4, _written(entry.value))


def _loop(expr: Comprehension) -> bytes:
    return (
        _message(1, expr.variable.encode())
        + _message(2, _written(expr.range))
        + _message(3, expr.accumulator.encode())
        + _message(4, _written(expr.start))
        + _message(5, _written(expr.condition))
        + _message(6, _written(expr.step))
        + _message(7, _written(expr.result))
    )


def _literal(const: Const) -> bytes:
    value = const.value
    if isinstance(value, float):
        return _number(5 << 3 | 1) + struct.pack("<d", value)
    if isinstance(value, str):
        return _message(6, value.encode())
    if isinstance(value, bytes):
        return _message(7, value)
    return _scalar(const.kind, int(value or 0))
