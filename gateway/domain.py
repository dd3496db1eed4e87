"""Changes of everything but runs: load, fold, decide, append; for any aggregate.

Safe to repeat: a second try folds the first one's events and decides on what is there.
"""

from collections.abc import Callable, Sequence
from functools import reduce
from typing import Any, Final, Generic, TypeVar

import msgspec
from msgspec import Struct

from chassis.clock import Clock
from chassis.ids import commit_id, digest, receipt
from chassis.ports import Ambiguous, Log, Proposal, Stored
from contracts.cloudevents import headers_of
from contracts.codec import decode_domain_commit, encode
from contracts.commits import FIRST_HASH, DomainCommit
from contracts.limits import COMMIT_BYTES
from contracts.runs import Actor
from contracts.subjects import domain as domain_subject
from gateway.callers import Caller
from gateway.rejected import Rejected

S = TypeVar("S")
E = TypeVar("E")

TRIES: Final = 5


class Aggregate(Struct, Generic[S, E], frozen=True, kw_only=True):
    """One kind of thing that has a history: how it begins, and how a fact changes it."""

    name: str
    new: S
    evolve: Callable[[S, E], S]


class Cause(Struct, frozen=True, kw_only=True):
    """Who asked for a change, by which request."""

    org: str
    actor: Actor
    request: str
    """Id of the request: what the commit says caused it."""
    trace: str = ""


def cause_of(caller: Caller) -> Cause:
    """One request of a caller; its id is new each time."""
    return Cause(org=caller.org, actor=caller.actor, request=receipt(), trace=caller.trace)


class Place(Struct, frozen=True, order=True):
    """Where a commit lies: comparable within one stream."""

    epoch: int
    sequence: int


class Changed(Struct, Generic[S], frozen=True):
    """The state after a change, and where its last commit lies."""

    state: S
    place: Place
    events: Sequence[Any]
    """Empty: the state already was what was asked for."""


class _History(Struct, Generic[S], frozen=True):
    state: S
    version: int
    sequence: int
    last_hash: str
    last_id: str


class Domain:
    """The aggregates of DOMAIN."""

    def __init__(self, log: Log, clock: Clock, engine_version: str) -> None:
        self._log, self._clock, self._engine_version = log, clock, engine_version
        self.conflicts = 0

    async def load(self, aggregate: Aggregate[S, E], org: str, id_: str) -> S:
        """The state now; `aggregate.new` when nothing ever happened to it."""
        return (await self._history(aggregate, org, id_)).state

    async def change(
        self, aggregate: Aggregate[S, E], id_: str, decide: Callable[[S], Sequence[E]], cause: Cause
    ) -> Changed[S]:
        """Record what follows from one command. `decide` may raise `Rejected`; it is asked again after a conflict."""
        for _ in range(TRIES):
            history = await self._history(aggregate, cause.org, id_)
            events = decide(history.state)
            if not events:
                return Changed(history.state, Place(self._log.epoch, history.sequence), ())
            commit = self._commit(aggregate.name, id_, history, events, cause)
            sequence = await self._append(commit, history, cause)
            if sequence is not None:
                state = reduce(aggregate.evolve, events, history.state)
                return Changed(state, Place(self._log.epoch, sequence), tuple(events))
            self.conflicts += 1
        raise Rejected("conflict", "Others changed it at the same time, again and again. Try again.")

    async def _history(self, aggregate: Aggregate[S, E], org: str, id_: str) -> _History[S]:
        stored = await self._log.history(domain_subject(org, aggregate.name, id_))
        state, last = aggregate.new, None
        for message in stored:
            last = decode_domain_commit(message.body, aggregate.name)
            state = reduce(aggregate.evolve, last.events, state)
        if last is None:
            return _History(state, 0, 0, FIRST_HASH, "")
        return _History(state, last.version, stored[-1].sequence, digest(stored[-1].body), last.id)

    def _commit(
        self, name: str, id_: str, history: _History[S], events: Sequence[E], cause: Cause
    ) -> DomainCommit[E]:
        version = history.version + 1
        subject = domain_subject(cause.org, name, id_)
        return DomainCommit(
            # The request is part of the id: two equal wishes of two callers are two commits.
            id=commit_id(subject, version, history.last_hash, encode((cause.request, events))),
            org=cause.org,
            aggregate=name,
            aggregate_id=id_,
            version=version,
            events=tuple(events),
            time=self._clock.now(),
            actor=cause.actor,
            causation_id=cause.request,
            correlation_id=cause.request,
            engine_version=self._engine_version,
            key_id="",
            prev_hash=history.last_hash,
        )

    async def _append(self, commit: DomainCommit[E], history: _History[S], cause: Cause) -> int | None:
        """Where the commit lies; None when somebody else was first."""
        body = encode(commit)
        if len(body) > COMMIT_BYTES:
            raise Rejected("too_large", f"A change may have {COMMIT_BYTES} bytes at the most.")
        subject = domain_subject(commit.org, commit.aggregate, commit.aggregate_id)
        proposal = Proposal(subject, body, history.sequence, headers_of(commit, cause.trace))
        try:
            return (await self._log.append([proposal]))[0]
        except Ambiguous:
            return await self._look(subject, commit, history)

    async def _look(self, subject: str, commit: DomainCommit[E], history: _History[S]) -> int | None:
        """Nobody answered: whether our commit is there, the log itself says."""
        after: list[Stored] = await self._log.history(subject, history.sequence)
        for message in after:
            if msgspec.json.decode(message.body, type=_Identified).id == commit.id:
                return message.sequence
        return None


class _Identified(Struct):
    id: str
