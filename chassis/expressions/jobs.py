"""Evaluations that are made apart, by a process that may be killed: what is asked, and what is answered."""

import hashlib
from collections.abc import Mapping, Sequence
from typing import Final, Protocol, TypeAlias

from msgspec import Raw, Struct


class Job(Struct, frozen=True, kw_only=True):
    """One evaluation: the source, and an object of its variables' values."""

    source: str
    values: Raw

    @property
    def name(self) -> str:
        """Equal for equal jobs, so that an answer is only ever taken for the question that was asked."""
        text = self.source.encode()
        return hashlib.sha256(b"%d:%b%b" % (len(text), text, bytes(self.values))).hexdigest()


class Done(Struct, frozen=True, kw_only=True, tag="done"):
    """What the evaluation gave."""

    value: Raw


class Undone(Struct, frozen=True, kw_only=True, tag="undone"):
    """Why the evaluation gave nothing, and the place in the source."""

    message: str
    offset: int = 0
    passing: bool = False
    """It says nothing about the expression: asked at another time it may be answered."""


Answer: TypeAlias = Done | Undone
Answers: TypeAlias = Mapping[str, Answer]
"""Answers by the names of their jobs."""
NO_ANSWERS: Final[Answers] = {}


class Apart(Exception):
    """These evaluations may take longer or more memory than whoever asks can bear. Nothing was evaluated.

    Have the jobs answered, then evaluate again with the answers.
    """

    def __init__(self, jobs: Sequence[Job]) -> None:
        super().__init__(f"{len(jobs)} evaluations")
        self.jobs = tuple(jobs)


class Worker(Protocol):
    """Whoever answers jobs."""

    async def answer(self, job: Job) -> Answer:
        """Never raises for what an expression does: that is an `Undone`."""
        ...
