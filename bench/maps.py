"""One run that goes through a long list, and the same over a tenth of it: what it costs, and that a longer list costs no item more."""

import asyncio
import json
import sys
import time
import urllib.request
from typing import Any, Final

from msgspec import Struct

from bench.measure import PROJECTED_SECONDS, QUICK, Bench, Disagree
from bench.workflows import EVERYBODY, fanned
from deploy.testing.installation import Opened

ITEMS: Final = 2_000 if QUICK else 10_000
GROWTH: Final = 1.2
"""So many times the bytes of an item in a list of a tenth may an item of the whole list have."""
_HISTORY: Final = (
    "select count(*) as commits, coalesce(sum(length(c.body)), 0)::bigint as bytes, "
    "coalesce(max(length(c.body)), 0) as largest, max(r.events) as events from read.runs r "
    "join archive.commits c on (c.org, c.run) = (r.org, r.id) where r.trigger = $1 and r.id = $2 and r.ended is not null"
)
_RUN: Final = (
    "select id from read.runs where trigger = $1 and ended is not null order by started desc limit 1"
)


class Mapped(Struct, frozen=True, kw_only=True):
    """What one map has cost."""

    items: int
    events: int
    commits: int
    bytes: int
    largest_commit: int
    answered_s: float
    projected_s: float
    orchestrator_us: int
    """Per item."""

    @property
    def per_item(self) -> float:
        """Bytes of its history."""
        return self.bytes / self.items

    def __str__(self) -> str:
        return (
            f"map of {self.items:,} items: {self.events:,} events in {self.commits:,} commits, {self.bytes:,} bytes "
            f"({self.per_item:.0f} per item, the largest commit {self.largest_commit:,}), answered after "
            f"{self.answered_s:.1f} s, in the read model after {self.projected_s:.1f} s, {self.orchestrator_us} µs of the "
            "orchestrator per item"
        )


def row(bench: Bench) -> None:
    """A call and a light node for each item."""
    opened = bench.stack.open("fanned", fanned(at_once=100), EVERYBODY)
    told = [_measured(bench, opened, items) for items in (ITEMS // 10, ITEMS)]
    sys.stdout.write("".join(f"{each}\n" for each in told))
    sys.stdout.flush()
    tenth, whole = told
    bench.results |= {
        "map_items": whole.items,
        "map_events": whole.events,
        "map_commits": whole.commits,
        "map_bytes": whole.bytes,
        "map_bytes_per_item": round(whole.per_item),
        "map_bytes_per_item_of_a_tenth": round(tenth.per_item),
        "map_largest_commit": whole.largest_commit,
        "map_items_per_s": round(whole.items / whole.answered_s),
        "map_projected_s": round(whole.projected_s, 1),
        "map_orchestrator_us_per_item": whole.orchestrator_us,
    }
    check_growth(tenth, whole)


def check_growth(tenth: Mapped, whole: Mapped) -> None:
    """Raises `Disagree` when an item of the longer list has more bytes of history."""
    if whole.per_item > GROWTH * tenth.per_item:
        raise Disagree(
            f"map: {whole.per_item:.0f} bytes of history per item of {whole.items}, {tenth.per_item:.0f} of {tenth.items}"
        )


def _measured(bench: Bench, opened: Opened, items: int) -> Mapped:
    body = json.dumps({"items": [{"n": number} for number in range(items)]}).encode()
    headers = {"content-type": "application/json", "idempotency-key": f"map-{time.time_ns()}"}
    before, cpu, began = bench.completed(), bench.stack.cpu(), time.perf_counter()
    with urllib.request.urlopen(urllib.request.Request(opened.url, body, headers), timeout=120) as answer:
        told = json.load(answer)
    answered = time.perf_counter() - began
    if [result["n"] for result in told["results"]] != [2 * number for number in range(items)]:
        raise Disagree("the results of a map are not those of its items, in their order")
    bench.until_projected(before + 1)
    projected = time.perf_counter() - began
    spent = bench.stack.cpu()["orchestrator"] - cpu["orchestrator"]
    history = _history(bench, opened.trigger)
    return Mapped(
        items=items,
        events=history["events"],
        commits=history["commits"],
        bytes=history["bytes"],
        largest_commit=history["largest"],
        answered_s=answered,
        projected_s=projected,
        orchestrator_us=round(spent / items * 1e6),
    )


def _history(bench: Bench, trigger: str) -> Any:
    """Of the newest run of the trigger, as the archive has it."""

    async def look() -> Any:
        [run] = await bench.stack.rows(_RUN, trigger)
        [found] = await bench.stack.rows(_HISTORY, trigger, run["id"])
        return found

    until = time.perf_counter() + PROJECTED_SECONDS
    while not (found := asyncio.run(look()))["commits"]:
        if time.perf_counter() > until:
            raise Disagree("the archive has no commit of a map that has ended")
        time.sleep(0.1)
    return found
