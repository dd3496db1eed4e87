"""What a sealed value looks like, where it stands alone and in a text with something around it. Looks prove nothing: only opening does.

A template that writes a sealed value into a text writes a mark, and whoever may open the value puts it in the mark's place.
"""

import re
from collections.abc import Callable
from typing import Final

SEALED: Final = "$sealed"
MARK: Final = "automateos-sealed~"
"""How a mark begins. None of its letters is written otherwise by JSON."""
_BLOB: Final = r"v1\|[1-9][0-9]{0,8}\|[A-Za-z0-9_-]{16}\|[A-Za-z0-9_-]{22,}"
_WHOLE: Final = re.compile(_BLOB, re.ASCII)
_MARKED: Final = re.compile(f"{MARK}({_BLOB})~", re.ASCII)


def is_sealed(value: object) -> bool:
    """Whether a value says of itself that it is sealed. A stranger can write such a value."""
    return isinstance(value, dict) and len(value) == 1 and isinstance(value.get(SEALED), str)


def mark(blob: str) -> str | None:
    """What stands for a sealed value in a text; None for what nobody of us sealed."""
    return f"{MARK}{blob}~" if _WHOLE.fullmatch(blob) else None


def replaced(text: str, by: Callable[[str], str]) -> str:
    """The text with what `by` gives for each sealed value in it."""
    return _MARKED.sub(lambda found: by(found[1]), text) if MARK in text else text
