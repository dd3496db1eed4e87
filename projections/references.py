"""Which objects of the object store a stored message or value names. Told from its bytes: a name too many does no harm."""

import re
from collections.abc import Mapping
from datetime import datetime
from typing import Final

from msgspec import Struct

_NAME: Final = re.compile(rb'"(?:sha256|plan)"\s*:\s*"([0-9a-f]{64})"')
_OBJECT: Final = re.compile(rb"\{[^{}]*\}")
_TYPE: Final = re.compile(rb'"content_type"\s*:\s*"([^"]*)"')


class Reference(Struct, frozen=True, kw_only=True):
    """Somebody names an object."""

    org: str
    sha256: str
    holder: str
    opens: bool
    """The object may be JSON, and so name others itself."""
    until: datetime | None = None
    """When this holder stops to count; None: while it is there."""


def names(body: bytes) -> Mapping[str, bool]:
    """Every object that these bytes name, and whether it may name others. Only what says that it is no JSON cannot."""
    if b'"sha256"' not in body and b'"plan"' not in body:
        return {}
    found = {name.decode(): True for name in _NAME.findall(body)}
    closed: dict[str, bool] = {}
    for described in _OBJECT.findall(body):
        kind = _TYPE.search(described)
        for name in _NAME.findall(described):
            is_closed = kind is not None and b"json" not in kind[1]
            closed[name.decode()] = closed.get(name.decode(), True) and is_closed
    return {name: not closed.get(name, False) for name in found}
