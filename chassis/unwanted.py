"""Attempts that nobody wants any more, as the runs' owners say it aloud: heard by whoever has attempts in their hands."""

from collections import OrderedDict
from typing import Final, TypeAlias

UNWANTED_MOST: Final = 20_000

AttemptId: TypeAlias = tuple[str, str, str, int]
"""Org, run, step, attempt."""


class Unwanted:
    """Attempts that were cancelled before their task came. What was forgotten for lack of room is looked up instead."""

    def __init__(self, most: int = UNWANTED_MOST) -> None:
        self._most = most
        self._names: OrderedDict[AttemptId, float] = OrderedDict()
        self.forgot_until = 0.0

    def add(self, name: AttemptId, now: float) -> None:
        self._names[name] = now
        if len(self._names) > self._most:
            self.forgot_until = self._names.popitem(last=False)[1]

    def __contains__(self, name: object) -> bool:
        return name in self._names
