"""A dedupe key that the trigger's owner wrote as a CEL expression over `trigger`."""

from msgspec import Raw

from chassis.expressions import Apart, Context, ExpressionError, Language, compile_condition
from contracts.codec import Malformed, encode
from ingress.bodies import Body
from ingress.deliveries import Request, query_of


class ExpressionKeys:
    """Evaluates keys; the language keeps what it has compiled."""

    def __init__(self, language: Language) -> None:
        self._language = language

    def key(self, expression: str, request: Request, body: Body) -> str | None:
        """The key; None when the expression gives null. Raises `Malformed` when it gives no key at all."""
        trigger = {
            "body": body.value,
            "headers": dict(request.headers),
            "query": query_of(request.query),
            "method": request.method,
            "content_type": body.content_type,
        }
        compiled = compile_condition(expression, self._language, node="dedupe", field="/expression")
        if compiled.faults:
            raise Malformed(f"The dedupe key: {compiled.faults[0].message}")
        try:
            value = compiled.evaluate(Context.from_roots(trigger=Raw(encode(trigger))))
        except ExpressionError as error:
            raise Malformed(f"The dedupe key: {error.message}") from None
        except Apart:
            raise Malformed("The dedupe key takes too long to evaluate.") from None
        if value is None or (isinstance(value, str | int) and not isinstance(value, bool)):
            return None if value in (None, "") else str(value)
        raise Malformed("The dedupe key is neither a text nor a whole number.")
