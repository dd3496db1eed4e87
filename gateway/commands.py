"""How a command's JSON becomes a struct: our strict decoder in the place where Litestar would decode by itself."""

from typing import Any, ClassVar

from litestar.dto import AbstractDTO
from litestar.dto._backend import DTOBackend
from litestar.typing import FieldDefinition

from chassis.edge.bodies import BodyDecoder
from chassis.secret import Secret


class Command(AbstractDTO[Any]):
    """Set once on the whole API. Every handler's `data` is decoded whole or refused with a `Problem`."""

    _decoders: ClassVar[dict[str, BodyDecoder[Any]]] = {}

    @classmethod
    def create_for_field_definition(
        cls,
        field_definition: FieldDefinition,
        handler_id: str,
        backend_cls: type[DTOBackend] | None = None,
    ) -> None:
        """Called by Litestar for each handler that takes `data`."""
        cls._decoders[handler_id] = BodyDecoder(field_definition.annotation, concealed)

    def decode_bytes(self, value: bytes) -> Any:
        handler: Any = self.asgi_connection.route_handler
        return self._decoders[handler.handler_id](value)


def concealed(kind: type, value: Any) -> Any:
    """A text that nobody may see becomes a `Secret` while it is decoded."""
    if kind is Secret and isinstance(value, str):
        return Secret(value)
    raise TypeError("a secret is text")
