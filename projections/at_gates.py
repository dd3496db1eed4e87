"""At which gates a run waits, and inside of which it is: a list in its row, folded from its own events."""

from datetime import datetime
from typing import Final

import msgspec
from msgspec import Struct, structs

from contracts import runs
from contracts.codec import encode
from contracts.gates import GateLimit
from contracts.limits import GATE_KEY_CHARS
from projections.rows import RunRow
from projections.sanitised import text


class Place(Struct, frozen=True, kw_only=True):
    """A run at one gate, as it stands in `runs.gates`."""

    wait: str
    gate: str
    name: str
    key: str
    rank: int
    bounds: GateLimit
    inside: bool
    since: datetime
    """When it began to wait; once it is inside: when it was let in."""


_places: Final = msgspec.json.Decoder(list[Place])


def stands(run: RunRow, event: runs.WaitOpened, at: datetime) -> None:
    slot = event.slot
    if slot is None:
        return
    place = Place(
        wait=event.wait,
        gate=slot.gate,
        name=slot.name,
        key=text(slot.key, GATE_KEY_CHARS),
        rank=slot.rank,
        bounds=slot.bounds,
        inside=False,
        since=at,
    )
    _keep(run, [*(each for each in _read(run) if each.wait != event.wait), place])


def let_in(run: RunRow, wait: str, at: datetime) -> None:
    """Behind a gate that has a rate alone nobody stays."""
    _keep(
        run,
        [
            each if each.wait != wait else structs.replace(each, inside=True, since=at)
            for each in _read(run)
            if each.wait != wait or each.bounds.at_once is not None
        ],
    )


def waits_no_longer(run: RunRow, wait: str) -> None:
    if run.gates:
        _keep(run, [each for each in _read(run) if each.inside or each.wait != wait])


def has_left(run: RunRow) -> None:
    """It has ended: it is inside of none, and waits at none."""
    run.gates = ""


def _read(run: RunRow) -> list[Place]:
    return _places.decode(run.gates) if run.gates else []


def _keep(run: RunRow, places: list[Place]) -> None:
    run.gates = encode(places).decode() if places else ""
