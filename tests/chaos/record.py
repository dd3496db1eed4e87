"""What the senders and the world wrote down, by run."""

import json
from collections import defaultdict
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final, Literal

import msgspec
from msgspec import Struct

from tests.chaos.drawing import named
from tests.chaos.world import result_of
from tests.promises.evidence import Answered, Entry, Meant, Said, Wish

_RESULTS: Final[Mapping[str, Literal["accepted", "duplicate", "refused", "unknown"]]] = {
    "ok": "accepted",
    "dup": "duplicate",
    "no": "refused",
    "fail": "refused",
    "unknown": "unknown",
}
SAID_FILE: Final = "shouted"
"""What the worker outside has said, line by line."""


class Call(Struct, frozen=True, kw_only=True):
    """One call that the world heard."""

    t: float
    key: str
    n: int
    path: str
    method: str
    did: str
    acted: bool
    status: int
    body: str

    @property
    def run(self) -> str:
        return self.key.partition("/")[0]

    @property
    def step(self) -> str:
        return self.key.partition("/")[2]

    @property
    def manner(self) -> str:
        return self.path.split("/")[1]

    def result(self) -> Any:
        return self.body if self.manner == "shout" else result_of(self.body, odd=self.manner == "odd")


class Record:
    """Everything outside the installation that a campaign knows."""

    def __init__(self, folder: Path, triggers: Mapping[str, str]) -> None:
        """`triggers`: their ids by shape."""
        self.entries: dict[str, list[Entry]] = defaultdict(list)
        """Entries of the ledger by run; those that were told no run under the empty name."""
        self.calls: dict[str, list[Call]] = defaultdict(list)
        self.wishes: dict[str, list[Wish]] = defaultdict(list)
        self.said: dict[str, list[Said]] = defaultdict(list)
        self.answered: dict[str, list[Answered]] = defaultdict(list)
        self.meant: dict[str, list[Meant]] = defaultdict(list)
        self.shapes: dict[str, str] = {}
        self.outcomes: dict[str, int] = defaultdict(int)
        self.short: list[tuple[str, str, str, int, float, float]] = []
        """The ledger line by line, short: key, shape, what, status, when, seconds."""
        for line in _lines(folder / "ledger.jsonl"):
            self._entry(line, triggers)
        for line in _lines(folder / "world.jsonl"):
            call = msgspec.convert(line, Call)
            self.calls[call.run].append(call)
        for call in _shouted(folder / SAID_FILE):
            self.calls[call.run].append(call)
        for line in _lines(folder / "wishes.jsonl"):
            self._wished(line)

    def _wished(self, line: dict[str, Any]) -> None:
        """What people wanted, what they answered, and what they were told about it."""
        match line.pop("kind"):
            case "said":
                self.said[line["run"]].append(Said(**line))
            case "meant":
                self.meant[line["run"]].append(Meant(**line))
            case "answered":
                self.answered[line["run"]].append(Answered(**line))
            case kind:
                line["at"] = line.pop("t")
                self.wishes[line["run"]].append(Wish(kind=kind, **line))

    def _entry(self, line: dict[str, Any], triggers: Mapping[str, str]) -> None:
        self.outcomes[line["w"]] += 1
        self.short.append(
            (
                line["k"],
                line["h"],
                line["w"],
                line.get("c", 0),
                round(line["t"], 2),
                round(line.get("s", 0), 3),
            )
        )
        if line["w"] == "invoke":
            return
        run = line.get("run", "")
        answer = line.get("a")
        self.entries[run].append(
            Entry(
                at=line["t"],
                trigger=triggers[line["h"]],
                key=named(line["h"], line["k"]),
                result=_RESULTS[line["w"]],
                status=line.get("c", 0),
                run=run,
                receipt=line.get("receipt", ""),
                answer=answer.encode() if answer is not None else None,
                forged="f" in line,
                says_when=line.get("says_when"),
            )
        )
        if run:
            self.shapes[run] = line["h"]


def _shouted(path: Path) -> Iterator[Call]:
    """Each line is one call that must not be made twice: the name of its run in capitals."""
    for number, line in enumerate(path.read_text().splitlines() if path.exists() else ()):
        run = line.lower()
        yield Call(
            t=float(number),
            key=f"{run}/shout",
            n=number,
            path="/shout",
            method="SAY",
            did="ok",
            acted=True,
            status=200,
            body=line,
        )


def _lines(path: Path) -> Iterator[dict[str, Any]]:
    if path.exists():
        with path.open("rb") as file:
            for line in file:
                yield json.loads(line)
