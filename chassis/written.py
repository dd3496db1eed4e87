"""How a value looks inside a text."""

from decimal import Decimal

import msgspec

from chassis.seals import SEALED, is_sealed, mark


def written(value: object) -> str:
    """Texts as they are, nothing for null, numbers in their shortest form, sealed values as marks, lists and objects as JSON."""
    if isinstance(value, str):
        return value
    if value is None:
        return ""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, float):
        return _number(value)
    if isinstance(value, int):
        return str(value)
    marked = mark(value[SEALED]) if isinstance(value, dict) and is_sealed(value) else None
    return msgspec.json.encode(value).decode() if marked is None else marked


def _number(value: float) -> str:
    """As JavaScript and RFC 8785 write it: 100 rather than 100.0, digits rather than an exponent from 1e-6 to 1e21."""
    shortest = repr(value)
    if value == 0 or 1e-6 <= abs(value) < 1e21:
        digits = format(Decimal(shortest), "f").removesuffix(".0")
        return "0" if value == 0 else digits
    mantissa, exponent = shortest.split("e")
    return f"{mantissa}e{int(exponent):+d}"
