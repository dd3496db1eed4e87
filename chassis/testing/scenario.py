"""Given, when, then: the only vocabulary that a test of a state machine needs.

The machine is three functions: `accept` says which facts a message brings, `decide` what follows from a fact, `evolve`
folds either into the state. A scenario holds no I/O and is never changed: every method returns a new one.
"""

from collections.abc import Callable, Sequence
from datetime import datetime, timedelta
from typing import Any, Generic, Protocol, TypeVar

from msgspec import Struct, structs

from contracts.errors import Failure

S = TypeVar("S")
M = TypeVar("M")
E = TypeVar("E")


class Refused(Protocol):
    """What `accept` answers instead of facts when the state forbids what was asked."""

    @property
    def error(self) -> Failure: ...


class Told(Struct, Generic[E], frozen=True):
    """An event and when it was recorded."""

    event: E
    at: datetime
    fact: bool


class Scenario(Struct, Generic[S, M, E], frozen=True, kw_only=True, eq=False):
    """One story about one machine."""

    state: S
    at: datetime
    accept: Callable[[S, M, datetime], Sequence[E] | Refused]
    decide: Callable[[S, E, datetime], Sequence[E]]
    evolve: Callable[[S, E, datetime], S]
    history: tuple[Told[E], ...] = ()
    said: tuple[E, ...] = ()
    """What the last message led to: each fact and what followed from it."""
    refusal: Failure | None = None

    def given(self, *events: E) -> "Scenario[S, M, E]":
        """These events are recorded already; nobody decides on them any more."""
        state = self.state
        for event in events:
            state = self.evolve(state, event, self.at)
        return structs.replace(self, state=state)

    def later(self, seconds: float) -> "Scenario[S, M, E]":
        """Time passes."""
        return structs.replace(self, at=self.at + timedelta(seconds=seconds))

    def when(self, *messages: M) -> "Scenario[S, M, E]":
        """These messages come, one after the other; `said` and `refusal` tell about the last one."""
        told = self
        for message in messages:
            told = told._hear(message)
        return told

    def when_another_was_faster(self, rival: M, message: M) -> "Scenario[S, M, E]":
        """Two decided on the same state and the rival's commit came first: ours is decided anew on what it left."""
        self.when(message)
        return self.when(rival).when(message)

    def _hear(self, message: M) -> "Scenario[S, M, E]":
        accepted = self.accept(self.state, message, self.at)
        if not isinstance(accepted, Sequence):
            return structs.replace(self, said=(), refusal=accepted.error)
        state, told = self.state, list[Told[E]]()
        for fact in accepted:
            state = self.evolve(state, fact, self.at)
            told.append(Told(fact, self.at, True))  # noqa: FBT003  # Three fields in their order.
            for decision in self.decide(state, fact, self.at):
                state = self.evolve(state, decision, self.at)
                told.append(Told(decision, self.at, False))  # noqa: FBT003  # Not a fact.
        return structs.replace(
            self,
            state=state,
            history=(*self.history, *told),
            said=tuple(entry.event for entry in told),
            refusal=None,
        )

    def then(self, *expected: E) -> "Scenario[S, M, E]":
        """Exactly these events were recorded, in this order."""
        assert self.refusal is None, f"refused: {self.refusal}"
        assert self.said == expected, _difference(self.said, expected)
        return self

    def then_nothing(self) -> "Scenario[S, M, E]":
        """The message said nothing new, and was not refused."""
        return self.then()

    def then_refused(self, code: str) -> "Scenario[S, M, E]":
        assert self.refusal is not None, f"not refused, but: {self.said}"
        assert self.refusal.code == code
        return self

    def then_kinds(self, *kinds: type) -> "Scenario[S, M, E]":
        """Events of these types were recorded, in this order; for when only the shape of the story matters."""
        assert self.refusal is None, f"refused: {self.refusal}"
        assert [type(event) for event in self.said] == list(kinds)
        return self

    def then_redelivery_is_harmless(self) -> None:
        """The law of at-least-once delivery: a fact of the past, decided on again, gives nothing."""
        for entry in self.history:
            if entry.fact:
                again = list(self.decide(self.state, entry.event, self.at))
                assert again == [], f"{entry.event} was acted on twice: {again}"


def _difference(said: Sequence[Any], expected: Sequence[Any]) -> str:
    lines = [
        "recorded:",
        *(f"  {event}" for event in said),
        "expected:",
        *(f"  {event}" for event in expected),
    ]
    return "\n".join(lines)
