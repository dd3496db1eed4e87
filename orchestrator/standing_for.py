"""What one run has to know to stand for others: all that has started them, as one input. Asked of the runs' own histories."""

from collections.abc import Sequence
from typing import Final, Protocol

from msgspec import Raw, Struct

from chassis.ports import Blobs
from chassis.tasks import side_by_side
from contracts.codec import Decoder, encode
from contracts.limits import INLINE_BYTES
from contracts.payloads import Inline, Payload
from orchestrator.inputs import shown, trigger_body
from orchestrator.memory import Known
from orchestrator.passing import awaited_slot


class Histories(Protocol):
    """`orchestrator.sources.Sources`, or its like."""

    blobs: Blobs

    async def load(self, org: str, run_id: str, *, whole: bool = False, wished: bool = False) -> Known: ...


class BatchInput(Struct, frozen=True, kw_only=True):
    """What expressions see as `trigger` in a run that stands for a batch."""

    body: list[Raw]
    """Of each start, in the order in which they came."""
    runs: list[str]
    """The runs for which it stands, itself among them, in that order."""
    headers: dict[str, str] = {}
    query: dict[str, str] = {}
    method: str = "BATCH"
    content_type: str = "application/json"


class _Runs(Struct, frozen=True):
    runs: list[str]


_runs: Final = Decoder[_Runs](_Runs)


class StandingFor:
    """Reads the runs of a batch, wherever they lie."""

    def __init__(self, histories: Histories) -> None:
        self._histories = histories

    async def took(self, org: str, gate: str, run: str, members: Sequence[str]) -> bool:
        """Whether it has what started its batch: asked of its whole history, so that it is known whatever has left the log."""
        has = (await self._histories.load(org, run, whole=True)).run
        if has.batch != gate:
            return False
        # One that was in an earlier batch has that one's: whoever waits still is not in it.
        whole = (
            has.input.value if isinstance(has.input, Inline) else await self._histories.blobs.get(has.input)
        )
        there = _runs(whole).runs
        others = [await self._histories.load(org, each) for each in members if each not in there]
        return all(awaited_slot(other.run, gate, 1) is None for other in others)

    async def input(self, org: str, gate: str, runs: Sequence[str]) -> Payload:
        """What has started all of these; whoever has ended meanwhile stands for itself. Raises `Away`."""
        found: dict[str, Raw] = {}

        async def look(run: str) -> None:
            known = (await self._histories.load(org, run)).run
            # A question that comes late is of a run that is in already.
            if awaited_slot(known, gate, 1) is not None:
                found[run] = _body(known.input)

        await side_by_side(look(run) for run in runs)
        there = [run for run in runs if run in found]
        whole = encode(BatchInput(body=[found[run] for run in there], runs=there))
        if len(whole) <= INLINE_BYTES:
            return Inline(value=Raw(whole))
        return await self._histories.blobs.put(whole)


def _body(started_with: Payload) -> Raw:
    return trigger_body(started_with.value) if isinstance(started_with, Inline) else shown(started_with)
