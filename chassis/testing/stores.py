"""Simulated stores: the log with optimistic concurrency, blobs, letters. They keep the laws that the real ones keep."""

import asyncio
from collections import defaultdict
from collections.abc import AsyncIterator, Callable, Mapping, Sequence

from chassis.ids import digest
from chassis.ports import Away, Full, Proposal, Stored
from chassis.testing.world import START, World
from contracts.limits import BLOB_BYTES
from contracts.payloads import Blob


class MemoryLog:
    """A stream in memory. With a calm world it is the fake for unit tests."""

    def __init__(self, world: World) -> None:
        self._world = world
        self.messages: list[Stored] = []
        self._by_subject: dict[str, list[Stored]] = defaultdict(list)
        self.ever: dict[str, list[Stored]] = defaultdict(list)
        """Every history with what was purged from it: the memory of the simulation, not of the log."""
        self._grew = asyncio.Event()
        self._gone: set[int] = set()
        self.epoch = 1
        self.conflicts = 0
        self.together = 0
        """Messages that came in company."""

    async def append(self, proposals: Sequence[Proposal]) -> list[int | None]:
        subjects = [proposal.subject for proposal in proposals]
        if len(set(subjects)) != len(subjects):
            raise ValueError("a subject stands twice in one append")

        if len(subjects) > 1:
            self.together += len(subjects)

        def half() -> list[int | None]:
            # An unacknowledged batch may be torn: each commit stands alone.
            return [self._place(p) for p in proposals if self._world.random.random() < 0.3]

        return await self._world.operation(
            lambda: [self._place(p) for p in proposals],
            half if len(proposals) > 1 else None,
            refusals=(Away, Away, Full),
        )

    def _place(self, proposal: Proposal) -> int | None:
        before = self._by_subject[proposal.subject]
        if (before[-1].sequence if before else 0) == proposal.expected:
            stored = Stored(
                subject=proposal.subject,
                sequence=len(self.messages) + 1,
                body=proposal.body,
                headers=dict(proposal.headers),
                time=START.timestamp() + self._world.loop.time(),
            )
            self.messages.append(stored)
            before.append(stored)
            self.ever[stored.subject].append(stored)
            self._grew.set()
            return stored.sequence
        following = next((stored for stored in before if stored.sequence > proposal.expected), None)
        if following is not None and following.body == proposal.body:
            return following.sequence
        self.conflicts += 1
        return None

    def put(self, subject: str, body: bytes) -> None:
        """Store a message behind everybody's back: what was there before the story begins."""
        last = self._by_subject[subject][-1:]
        self._place(Proposal(subject, body, last[0].sequence if last else 0))

    async def history(self, subject: str, after: int = 0) -> list[Stored]:
        return await self._world.operation(
            lambda: [stored for stored in self._by_subject[subject] if stored.sequence > after]
        )

    async def last(self, subjects: Sequence[str]) -> dict[str, Stored]:
        return await self._world.operation(
            lambda: {subject: found[-1] for subject in subjects if (found := self._by_subject.get(subject))}
        )

    async def first(self, subjects: Sequence[str]) -> dict[str, Stored]:
        return await self._world.operation(
            lambda: {subject: found[0] for subject in subjects if (found := self._by_subject.get(subject))}
        )

    async def read(self, after: int, most: int = 2_000) -> AsyncIterator[Sequence[Stored]]:
        """The `Reader` of this stream."""
        while True:
            await self._world.moment()
            there = self.messages[after : after + most]
            if there:
                after = there[-1].sequence
                batch = [stored for stored in there if stored.sequence not in self._gone]
                if batch:
                    yield batch
            else:
                yield []
                self._grew.clear()
                if len(self.messages) == after:
                    await self._grew.wait()

    async def end(self) -> int:
        return len(self.messages)

    def purge(self, fits: Callable[[str], bool], before: int | None = None) -> int:
        """Remove the messages of some subjects, or only those before a sequence; how many went."""
        gone = 0
        for subject, found in self._by_subject.items():
            if fits(subject):
                left = [stored for stored in found if before is not None and stored.sequence >= before]
                gone += len(found) - len(left)
                if len(left) < len(found):
                    self._gone.update(
                        {stored.sequence for stored in found} - {kept.sequence for kept in left}
                    )
                found[:] = left
        return gone

    def subjects(self) -> Mapping[str, Sequence[Stored]]:
        """Every history as the log has it now."""
        return {subject: found for subject, found in self._by_subject.items() if found}


class MemoryBlobs:
    """Bytes by hash."""

    def __init__(self, world: World) -> None:
        self._world = world
        self.kept: dict[str, bytes] = {}

    async def put(self, data: bytes, content_type: str = "application/json") -> Blob:
        if len(data) > BLOB_BYTES:
            raise ValueError("larger than a blob may be")
        blob = Blob(sha256=digest(data), size=len(data), content_type=content_type)
        await self._world.operation(lambda: self.kept.setdefault(blob.sha256, data))
        return blob

    async def get(self, blob: Blob) -> bytes:
        return await self._world.operation(lambda: self.kept[blob.sha256])


class MemoryLetters:
    """Plain stores without an expectation."""

    def __init__(self, world: World) -> None:
        self._world = world
        self.stored: list[tuple[str, bytes, Mapping[str, str]]] = []

    async def store(self, subject: str, body: bytes, headers: Mapping[str, str] | None = None) -> int:
        def act() -> int:
            self.stored.append((subject, body, dict(headers or {})))
            return len(self.stored)

        return await self._world.operation(act)
