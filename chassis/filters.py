"""Whether what came is what somebody wants: a CEL expression over `trigger` that says yes or no."""

from msgspec import Raw

from chassis.expressions import Apart, Context, ExpressionError, Language, compile_condition

FIELD = "/filter"


class FilterFailed(Exception):
    """The filter says neither yes nor no."""


def holds(source: str, language: Language, trigger: bytes) -> bool:
    """Raises `FilterFailed`. An empty source wants everything."""
    if not source:
        return True
    compiled = compile_condition(source, language, node="trigger", field=FIELD)
    if compiled.faults:
        raise FilterFailed(compiled.faults[0].message)
    try:
        value = compiled.evaluate(Context.from_roots(trigger=Raw(trigger)))
    except ExpressionError as error:
        raise FilterFailed(error.message) from None
    except Apart:
        raise FilterFailed("it takes too long to evaluate") from None
    if not isinstance(value, bool):
        raise FilterFailed("it is neither true nor false")
    return value
