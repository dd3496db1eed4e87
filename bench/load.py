"""A load generator in a process of its own: keep-alive HTTP over plain sockets, closed or open loop.

    python -m bench.load URL --connections 64 --seconds 5 [--rate 100 [--settle 2]] [--body FILE]

Every request carries an `Idempotency-Key` of its own. Prints one JSON object: requests, answers by status, latencies of the
granted ones, how many refusals came without `Retry-After`, and how late the generator itself was.
"""

import argparse
import asyncio
import json
import math
import sys
import time
from collections import deque
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Final, TypeAlias, TypeVar, cast
from urllib.parse import urlsplit

import uvloop

BODY = json.dumps(
    {
        "id": "ord_48121",
        "status": "paid",
        "total": 129.5,
        "currency": "EUR",
        "customer": {"name": "Ada Lovelace", "email": "ada@example.com", "country": "GB"},
        "items": [
            {"sku": "SKU-1001", "qty": 2, "price": 39.75},
            {"sku": "SKU-2044", "qty": 1, "price": 50.0},
        ],
        "note": "please ring twice and leave the parcel with the neighbour on the left",
        "tags": ["new", "priority"],
    }
).encode()


REFUSALS: Final = ("429", "503")


class Answers:
    """What came back."""

    def __init__(self, settle: float = 0.0) -> None:
        self._settle = settle
        self.by_status: dict[str, int] = {}
        self.seconds: list[float] = []
        self.early: list[float] = []
        """Of what was sent before the load had settled."""
        self.late: list[float] = []
        self.without_retry_after = 0

    def add(self, answer: "HttpAnswer", seconds: float, sent: float = math.inf) -> None:
        """`sent`: so many seconds after the beginning."""
        status, may_come_again = answer
        self.by_status[status] = self.by_status.get(status, 0) + 1
        if status.startswith("2"):
            (self.seconds if sent >= self._settle else self.early).append(seconds)
        elif status in REFUSALS and not may_come_again:
            self.without_retry_after += 1

    def told(self, lasted: float) -> dict[str, object]:
        ordered, early, late = sorted(self.seconds), sorted(self.early), sorted(self.late)
        granted = len(ordered) + len(early)
        return {
            "requests": sum(self.by_status.values()),
            "ok": granted,
            "statuses": self.by_status,
            "without_retry_after": self.without_retry_after,
            "seconds": round(lasted, 3),
            "per_s": round(granted / lasted, 1) if lasted else 0.0,
            "p50_ms": _share(ordered, 0.5),
            "p99_ms": _share(ordered, 0.99),
            "max_ms": _share(ordered, 1.0),
            "early_p99_ms": _share(early, 0.99),
            "late_p99_ms": _share(late, 0.99),
        }


def _share(ordered: list[float], share: float) -> float | None:
    if not ordered:
        return None
    return round(ordered[min(len(ordered) - 1, int(len(ordered) * share))] * 1_000, 2)


HttpAnswer: TypeAlias = tuple[str, bool]
"""The status, or `lost`; and whether it came with `Retry-After`."""
LOST: Final[HttpAnswer] = ("lost", False)


class _Line(asyncio.Protocol):
    """One connection with at most one request under way."""

    def __init__(self) -> None:
        self.transport: asyncio.Transport | None = None
        self.answered: asyncio.Future[HttpAnswer] | None = None
        self._read = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast("asyncio.Transport", transport)

    def connection_lost(self, _exc: Exception | None) -> None:
        self.transport = None
        self._tell(LOST)

    def data_received(self, data: bytes) -> None:
        self._read += data
        head, found, body = self._read.partition(b"\r\n\r\n")
        if not found:
            return
        head = head.lower()
        length = int(head.partition(b"content-length:")[2].partition(b"\r\n")[0] or b"0")
        if len(body) >= length:
            self._read = b""
            self._tell((head[9:12].decode(), b"\r\nretry-after:" in head))

    def _tell(self, answer: HttpAnswer) -> None:
        if self.answered is not None and not self.answered.done():
            self.answered.set_result(answer)


LINE = TypeVar("LINE", bound=_Line)


class Client:
    """One keep-alive connection."""

    def __init__(self, host: str, port: int, path: str, body: bytes, label: str) -> None:
        self._address = (host, port)
        self._head = (
            f"POST {path} HTTP/1.1\r\nHost: {host}:{port}\r\nContent-Type: application/json\r\n"
            f"Content-Length: {len(body)}\r\nIdempotency-Key: {label}-"
        ).encode()
        self._body = body
        self._line: _Line = _Line()

    async def post(self, number: int) -> HttpAnswer:
        """Send one request; the status of its answer, or `lost`."""
        if self._line.transport is None or self._line.transport.is_closing():
            try:
                await self.connect(_Line)
            except OSError:
                return LOST
        line = self._line
        line.answered = asyncio.get_running_loop().create_future()
        if line.transport is None:
            return LOST
        line.transport.write(self.request(number))
        return await line.answered

    async def connect(self, make: Callable[[], LINE]) -> LINE:
        """A new connection."""
        _, line = await asyncio.get_running_loop().create_connection(make, *self._address)
        self._line = line
        return line

    def request(self, number: int) -> bytes:
        return b"%s%d\r\n\r\n%s" % (self._head, number, self._body)

    def close(self) -> None:
        if self._line.transport is not None:
            self._line.transport.close()


async def closed_loop(clients: list[Client], seconds: float) -> tuple[Answers, float]:
    """Each connection sends its next request when it has its answer."""
    answers, begin = Answers(), time.perf_counter()

    async def one(place: int, client: Client) -> None:
        number = place * 100_000_000
        while (began := time.perf_counter()) - begin < seconds:
            number += 1
            answers.add(await client.post(number), time.perf_counter() - began)
        client.close()

    async with asyncio.TaskGroup() as group:
        for place, client in enumerate(clients, 1):
            group.create_task(one(place, client))
    return answers, time.perf_counter() - begin


class _Steady:
    """Sends each request at its time, over whichever connection is free. No task per request: they cost what is measured."""

    def __init__(self, clients: list[Client], answers: Answers) -> None:
        self._clients = clients
        self._answers = answers
        self._free: deque[_SteadyLine] = deque()
        self._due: deque[tuple[int, float]] = deque()
        self._broken: list[Client] = []
        self.under_way = 0
        self.begin = 0.0

    async def connect(self) -> None:
        """Open every connection, or open the broken ones again."""
        missing, self._broken = self._broken or self._clients, []
        for client in missing:
            try:
                line = await client.connect(partial(_SteadyLine, self, client))
            except OSError:
                self._broken.append(client)
            else:
                self._free.append(line)

    @property
    def unsent(self) -> int:
        return len(self._due)

    @property
    def broken(self) -> int:
        return len(self._broken)

    def send(self, number: int, due: float) -> None:
        self._due.append((number, due))
        self.send_due()

    def send_due(self) -> None:
        while self._due and self._free:
            line = self._free.popleft()
            if line.transport is None:
                self._broken.append(line.client)  # While nobody used it.
                continue
            number, due = self._due.popleft()
            self._answers.late.append(time.perf_counter() - due)
            self.under_way += 1
            line.due = due
            line.transport.write(line.client.request(number))

    def heard(self, line: "_SteadyLine", answer: HttpAnswer) -> None:
        self.under_way -= 1
        due, line.due = line.due or 0.0, None
        self._answers.add(answer, time.perf_counter() - due, due - self.begin)
        if line.transport is None:
            self._broken.append(line.client)
        else:
            self._free.append(line)
            self.send_due()


class _SteadyLine(_Line):
    def __init__(self, steady: _Steady, client: Client) -> None:
        super().__init__()
        self._steady = steady
        self.client = client
        self.due: float | None = None

    def _tell(self, answer: HttpAnswer) -> None:
        if self.due is not None:
            self._steady.heard(self, answer)


async def open_loop(
    clients: list[Client], seconds: float, rate: float, settle: float = 0.0
) -> tuple[Answers, float]:
    """Requests leave at their time, however late the answers are; latency counts from that time."""
    answers = Answers(settle)
    steady = _Steady(clients, answers)
    await steady.connect()
    steady.begin = begin = time.perf_counter()
    number, wanted = 0, int(seconds * rate)
    while number < wanted or steady.under_way or steady.unsent:
        now = time.perf_counter()
        while number < wanted and (due := begin + number / rate) <= now:
            number += 1
            steady.send(number, due)
        if steady.broken:
            await steady.connect()
            steady.send_due()
        await asyncio.sleep(0.001)
    lasted = time.perf_counter() - begin
    for client in clients:
        client.close()
    return answers, lasted


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("url")
    parser.add_argument("--connections", type=int, default=1)
    parser.add_argument("--seconds", type=float, default=5.0)
    parser.add_argument("--rate", type=float, default=0.0)
    parser.add_argument("--settle", type=float, default=0.0)
    parser.add_argument("--label", default="load")
    parser.add_argument("--body", type=Path)
    given = parser.parse_args()
    url = urlsplit(given.url)
    body = given.body.read_bytes() if given.body else BODY
    clients = [
        Client(url.hostname or "127.0.0.1", url.port or 80, url.path or "/", body, given.label)
        for _ in range(given.connections)
    ]
    work = (
        open_loop(clients, given.seconds, given.rate, given.settle)
        if given.rate
        else closed_loop(clients, given.seconds)
    )
    answers, lasted = uvloop.run(work)
    sys.stdout.write(json.dumps(answers.told(lasted)) + "\n")


if __name__ == "__main__":
    main()
