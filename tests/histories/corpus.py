"""Recorded runs, as the folders of the releases keep them: one line per run, with every commit's bytes as they were stored.

A commit is JSON, so it stands in its line as a string of its own bytes: nothing is encoded anew, not even a space. What is
recorded is never written again; `manifest.json` says the hash of every file.
"""

from collections.abc import Iterable, Iterator, Sequence
from hashlib import sha256
from pathlib import Path
from typing import Final

import msgspec
from msgspec import Struct

from contracts.codec import Decoder, decode_commit
from contracts.commits import Commit
from contracts.plans import Plan
from contracts.runs import RunEvent
from orchestrator.readiness import Graph

HERE: Final = Path(__file__).parent
MANIFEST: Final = HERE / "manifest.json"
_decode_plan = Decoder[Plan](Plan)


class Recorded(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One run."""

    name: str
    """Of the story or the schedule in which it happened."""
    org: str
    run: str
    status: str
    """What became of it."""
    commits: Sequence[str]
    plan: str | None = None
    """The stored bytes of its plan. None: nobody could find or read it, and the run was decided without one."""
    expressions: bool = False
    """Whether its configurations were evaluated by the real engine, and nothing of it lies in the object store."""

    @property
    def bodies(self) -> list[bytes]:
        return [commit.encode() for commit in self.commits]

    def decoded(self) -> list[Commit[RunEvent]]:
        return [decode_commit(body) for body in self.bodies]

    def graph(self) -> Graph | None:
        return Graph.of(_decode_plan(self.plan.encode())) if self.plan is not None else None


def releases() -> list[str]:
    """The releases whose histories are kept."""
    return sorted(path.name for path in HERE.iterdir() if path.is_dir() and any(path.glob("*.jsonl")))


def files(release: str) -> list[Path]:
    return sorted((HERE / release).glob("*.jsonl"))


def recorded(release: str) -> Iterator[Recorded]:
    for file in files(release):
        for line in file.read_bytes().splitlines():
            yield msgspec.json.decode(line, type=Recorded)


def write(release: str, name: str, runs: Iterable[Recorded]) -> Path:
    """A new file of a release. Refused where one is: what is recorded stays as it is."""
    path = HERE / release / f"{name}.jsonl"
    path.parent.mkdir(exist_ok=True)
    with path.open("xb") as file:
        file.writelines(msgspec.json.encode(run) + b"\n" for run in runs)
    known = manifest() | {name_of(path): digest_of(path)}
    MANIFEST.write_bytes(
        msgspec.json.format(msgspec.json.encode(dict(sorted(known.items()))), indent=2) + b"\n"
    )
    return path


def manifest() -> dict[str, str]:
    """The SHA-256 of every file that was ever written, by its place in this folder."""
    return msgspec.json.decode(MANIFEST.read_bytes(), type=dict[str, str]) if MANIFEST.exists() else {}


def name_of(path: Path) -> str:
    return path.relative_to(HERE).as_posix()


def digest_of(path: Path) -> str:
    return sha256(path.read_bytes()).hexdigest()
