"""What a sender calls its delivery: two of one name are one."""

from msgspec import Raw

from chassis.expressions import Apart, Context, ExpressionError, Language, compile_condition
from contracts.codec import Decoder, Malformed, encode
from contracts.limits import DEDUPE_KEY_BYTES
from contracts.triggers import Chat, ChatMessage, ExpressionKey, HeaderKey, NoDedupe, Preset
from ingress.bodies import Body
from ingress.deliveries import Request, query_of
from ingress.directory import Trigger
from ingress.signature import dedupe_key

_message = Decoder[ChatMessage](ChatMessage)


class SenderKeys:
    """Reads keys as each trigger says; the language keeps what it has compiled."""

    def __init__(self, language: Language) -> None:
        self._language = language

    def of(self, trigger: Trigger, request: Request, body: Body) -> str | None:
        """The key; None for a delivery without one. Raises `Malformed` where there is one that cannot be used."""
        key = (
            self._key(trigger, request, body) if trigger.chat is None else _key_of_message(trigger.chat, body)
        )
        if key is not None and len(key.encode()) > DEDUPE_KEY_BYTES:
            raise Malformed(f"The dedupe key is longer than {DEDUPE_KEY_BYTES} bytes.")
        return key

    def _key(self, trigger: Trigger, request: Request, body: Body) -> str | None:
        match trigger.webhook.dedupe:
            case NoDedupe():
                return None
            case Preset(preset=preset):
                return dedupe_key(preset, request.raw_headers, request.body)
            case HeaderKey(header=header):
                return request.headers.get(header.lower()) or None
            case ExpressionKey(expression=expression):
                return self._by_expression(expression, request, body)

    def _by_expression(self, expression: str, request: Request, body: Body) -> str | None:
        """What the CEL expression of the trigger's owner gives over `trigger`; null and an empty text are no key."""
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


def _key_of_message(chat: Chat, body: Body) -> str | None:
    """What names a message of a talk; None for one without an id. Raises `Malformed` for what is no message."""
    if not isinstance(body.value, Raw):
        raise Malformed("A message is JSON: a session and a text.")
    said = _message(body.value)
    if len(said.message) > chat.message_chars:
        raise Malformed(f"A message has {chat.message_chars} characters at the most.", "/message")
    return None if said.id is None else f"{said.session}:{said.id}"
