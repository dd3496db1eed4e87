"""Old event shapes become today's, one version at a time. Pure; nothing stored is ever rewritten."""

from collections.abc import Callable, Mapping
from typing import Any, Final

CURRENT: Final[Mapping[str, int]] = {}
"""The newest version of each event type that has more than one; every other type is at version 1."""

UPCASTS: Final[Mapping[tuple[str, int], Callable[[dict[str, Any]], dict[str, Any]]]] = {}
"""(type, version) → what makes version + 1 of it. Golden files in tests/contracts/golden hold one of each, for ever."""


def upcast(
    kind: str,
    version: int,
    event: dict[str, Any],
    steps: Mapping[tuple[str, int], Callable[[dict[str, Any]], dict[str, Any]]] = UPCASTS,
    current: Mapping[str, int] = CURRENT,
) -> dict[str, Any]:
    """Lift one event to the newest shape of its type."""
    for step in range(version, current.get(kind, 1)):
        event = {**steps[kind, step](event), "schema_version": step + 1}
    return event
