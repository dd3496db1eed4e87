"""Nothing that anything names is ever collected, and what nothing names goes: on a real nats-server and a real Postgres."""

import random
from collections.abc import AsyncIterator, Sequence
from datetime import timedelta
from typing import Any

import pytest
from msgspec import Raw

from chassis.clock import SystemClock
from chassis.ports import Away, Proposal, Stored
from contracts.codec import encode, encode_bundle
from contracts.messages import StartRun
from contracts.payloads import Blob, Inline
from contracts.runs import Cause, RunCompleted
from contracts.subjects import DLQ, HOOKS, dead_letter, hook
from contracts.triggers import Hook
from contracts.workflows import VersionDrafted, VersionPublished, WorkflowCreated
from projections.collector import Collector
from projections.figures import Figures
from projections.guard import FOLLOWED
from projections.pending import pending
from projections.reference_tables import ReferenceTables
from projections.references import names
from projections.shelf import PostgresShelf
from tests.integration.test_projections_service import Place, Service, archiver, place
from tests.integration.test_projections_tables import DomainWriter
from tests.projections.histories import NOON, ORG, Writer, reported, scheduled, started, succeeded

__all__ = ["place"]
HOLDERS = ("input", "output", "inside", "hook", "letter", "inbox", "definition", "plan", "nobody", "nobody")


def collector(place: Place, figures: Figures | None = None, **more: Any) -> Collector:
    given: dict[str, Any] = {
        "tables": ReferenceTables(place.pool),
        "streams": place.streams,
        "objects": place.js.blobs,
        "readers": {HOOKS: place.js.reader(HOOKS), DLQ: place.js.reader(DLQ)},
        "inbox": lambda: pending(place.js.connection),
        "clock": SystemClock(),
        "figures": figures or Figures(),
        "older_than": 0.0,
    }
    return Collector(**given | more)


def a_start(run: str, body: Blob) -> StartRun:
    return StartRun(
        org=ORG,
        run=run,
        plan="ab" * 32,
        workflow="flow1",
        version=1,
        receipt="receipt",
        cause=Cause(kind="api"),
        input=body,
    )


class Story:
    """Objects, which of them name which others, and who holds them."""

    def __init__(self, place: Place, seed: int) -> None:
        self.place, self.chance = place, random.Random(seed)
        self.objects: list[Blob] = []
        self.named_by: dict[str, list[Blob]] = {}
        self.held: list[Blob] = []
        self.runs, self.domain = Writer(), DomainWriter()

    async def make(self, number: int) -> None:
        """An object: plain bytes, or JSON that names earlier ones somewhere within."""
        chance = self.chance
        named = chance.sample(self.objects, min(len(self.objects), chance.randrange(4)))
        if not named or chance.random() < 0.3:
            data, kind, named = f"bytes {number}".encode(), "application/octet-stream", []
        else:
            told: Any = [{"blob": each} if chance.random() < 0.5 else {"a": {"b": [each]}} for each in named]
            data, kind = encode({"number": number, "files": told}), "application/json"
        blob = await self.place.js.blobs.put(data, kind)
        self.named_by[blob.sha256] = named
        self.objects.append(blob)

    async def hold(self, number: int, blob: Blob) -> None:
        holder = self.chance.choice(HOLDERS)
        run, letters = f"run{number}", self.place.js.letters
        match holder:
            case "input":
                self.runs.commit(run, _with_input(blob), RunCompleted())
            case "output":
                done = reported("one")
                self.runs.commit(run, started(receipt=run), scheduled("one"))
                self.runs.commit(run, _replaced(done, output=blob), succeeded("one"))
            case "inside":
                self.runs.commit(run, started(receipt=run, body={"deep": [{"blob": blob}]}), RunCompleted())
            case "hook":
                record = Hook(
                    receipt=run, org=ORG, trigger="t1", time=1.0, result="captured", method="POST", body=blob
                )
                await letters.store(hook(ORG, "t1"), encode(record))
            case "letter":
                await letters.store(dead_letter("INBOX", ORG, run), encode(a_start(run, blob)))
            case "inbox":
                await self.place.js.inbox.put(number % 8, encode_bundle([encode(a_start(run, blob))]))
            case "definition":
                self.domain.commit(
                    "workflow",
                    f"w{number}",
                    WorkflowCreated(name="w"),
                    VersionDrafted(version=1, definition=blob),
                )
            case "plan":
                drafted = VersionDrafted(version=1, definition=Inline(value=Raw(b"{}")))
                self.domain.commit("workflow", f"w{number}", WorkflowCreated(name="w"), drafted)
                published = VersionPublished(version=1, plan=blob.sha256)
                self.domain.commit("workflow", f"w{number}", published)
        if holder != "nobody":
            self.held.append(blob)

    async def tell(self) -> None:
        await self.place.store(self.runs)
        for stored in self.domain.messages:
            last = (await self.place.js.domain.last([stored.subject])).get(stored.subject)
            expected = last.sequence if last else 0
            await self.place.js.domain.append([Proposal(stored.subject, stored.body, expected)])

    def reachable(self) -> set[str]:
        found: set[str] = set()
        waiting = list(self.held)
        while waiting:
            blob = waiting.pop()
            if blob.sha256 not in found:
                found.add(blob.sha256)
                waiting += self.named_by[blob.sha256]
        return found

    async def left(self) -> set[str]:
        found: set[str] = set()
        for blob in self.objects:
            try:
                await self.place.js.blobs.get(blob)
            except KeyError:
                continue
            found.add(blob.sha256)
        return found


def _with_input(blob: Blob) -> Any:
    return _replaced(started(), input=blob)


def _replaced(event: Any, **changes: Any) -> Any:
    from msgspec import structs

    return structs.replace(event, **changes)


@pytest.mark.parametrize("seed", range(4))
async def test_nothing_that_is_named_is_collected_and_all_that_is_not_goes(place: Place, seed: int) -> None:
    story = Story(place, seed)
    for number in range(40):
        await story.make(number)
    for number, blob in enumerate(story.chance.sample(story.objects, 14)):
        await story.hold(number, blob)
    await story.tell()
    figures = Figures()
    async with Service(place.settings):
        assert await collector(place, figures).round()
        # Histories that have left the log hold what they name all the same.
        await archiver(place, Figures()).round()
        assert await collector(place, figures).round()
    assert await story.left() == story.reachable()
    assert figures.collected == 40 - len(story.reachable())


async def test_what_is_young_stays_though_nothing_names_it(place: Place) -> None:
    blob = await place.js.blobs.put(b"put, and not yet named")
    async with Service(place.settings):
        assert await collector(place, older_than=3600.0).round()
    assert await place.js.blobs.get(blob) == b"put, and not yet named"


async def test_nothing_goes_while_the_archive_is_behind_the_log(place: Place, monkeypatch: Any) -> None:
    blob = await place.js.blobs.put(b"unnamed")
    monkeypatch.setattr("projections.collector.CATCH_UP_TRIES", 2)
    async with Service(place.settings):
        await place.until("select count(*) from read.positions", len(FOLLOWED))
    writer = Writer()
    writer.commit("run1", _with_input(blob), RunCompleted())
    await place.store(writer)
    assert not await collector(place).round(), "nobody has read yet what names it"
    async with Service(place.settings):
        await place.until("select count(*) from archive.commits", 1)
    assert await collector(place).round()
    assert await place.js.blobs.get(blob) == b"unnamed"


async def test_a_start_that_leaves_inbox_meanwhile_holds_its_input(place: Place) -> None:
    blob = await place.js.blobs.put(b"accepted long ago")
    writer = Writer()

    async def inbox() -> AsyncIterator[Sequence[Stored]]:
        """The owner takes it just before it is read: then its commit lies before the end that is looked up next."""
        writer.commit("run1", _with_input(blob), RunCompleted())
        await place.store(writer)
        for message in ():
            yield message

    async with Service(place.settings):
        await place.until("select count(*) from read.positions", len(FOLLOWED))
        assert await collector(place, inbox=inbox).round()
    assert await place.js.blobs.get(blob) == b"accepted long ago"


async def test_what_a_dropped_run_named_goes_a_day_after_it(place: Place) -> None:
    inner = await place.js.blobs.put(b"inner", "application/octet-stream")
    outer = await place.js.blobs.put(encode({"blob": inner}))
    writer = Writer()
    writer.commit("run1", _with_input(outer), RunCompleted())
    await place.store(writer)
    async with Service(place.settings):
        await place.until("select count(*) from archive.run_ids", 1)
        assert await collector(place).round()
        await archiver(place, Figures()).round()
        dropped = await PostgresShelf(place.pool).drop(NOON + timedelta(days=9), SystemClock().now(), 10)
        assert dropped == 1
        assert await collector(place).round()
        assert await place.js.blobs.get(inner) == b"inner"
        await place.pool.execute("update archive.blob_refs set until = until - interval '25 hours'")
        figures = Figures()
        assert await collector(place, figures).round()
        assert figures.collected == 2
    assert await place.pool.fetchval("select count(*) from archive.blob_refs") == 0
    assert await place.pool.fetchval("select count(*) from archive.blob_links") == 0


async def test_a_store_that_is_away_collects_nothing(place: Place) -> None:
    blob = await place.js.blobs.put(b"unnamed")

    async def away() -> AsyncIterator[Sequence[Stored]]:
        for message in ():
            yield message
        raise Away("INBOX does not answer")

    async with Service(place.settings):
        await place.until("select count(*) from read.positions", len(FOLLOWED))
        with pytest.raises(Away):
            await collector(place, inbox=away).round()
    assert await place.js.blobs.get(blob) == b"unnamed"


def test_names_are_found_wherever_they_stand_and_only_json_may_name_others() -> None:
    one, two, three = ("1a" * 32), ("2b" * 32), ("3c" * 32)
    body = encode(
        {
            "a": Blob(sha256=one, size=1, content_type="image/png"),
            "b": [{"blob": {"size": 1, "sha256": two, "content_type": "application/problem+json"}}],
            "plan": three,
            "prev_hash": "4d" * 32,
        }
    )
    assert names(body) == {one: False, two: True, three: True}
    both = encode([Blob(sha256=one, size=1, content_type="image/png"), Blob(sha256=one, size=1)])
    assert names(both) == {one: True}
    assert names(b"\xff garbage") == {}
