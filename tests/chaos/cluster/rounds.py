"""One round: load and faults on a cluster, then peace, then the verdict."""

import asyncio
import json
import random
import shutil
import tempfile
import time
from collections import Counter
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any, Final

import msgspec
from msgspec import Struct

from chassis.lifecycle import companions
from tests.chaos import stores
from tests.chaos.campaign import until_over
from tests.chaos.cluster.faults import KINDS, DidNotHeal, Turn, until_healthy
from tests.chaos.cluster.field import ClusterField, cluster_field
from tests.chaos.cluster.refusals import ELECTION_SECONDS, Struck, misjudged, told_in
from tests.chaos.field import Process
from tests.chaos.record import Record
from tests.chaos.verdict import Expected, Found, Verdict
from tests.promises.evidence import Violation

Say = Callable[[str], None]
_BREATH_SECONDS: Final = (0.5, 2.0)
_CALM_SECONDS: Final = ELECTION_SECONDS + 6.0
"""Between some faults: whoever is refused then was refused without a reason."""
_CALM_EVERY: Final = 4


class Plan(Struct, frozen=True, kw_only=True):
    """What a round shall be."""

    seed: str
    kinds: tuple[str, ...]
    """The faults, in their order."""
    rate: float
    cut_seconds: tuple[float, float]
    """Between these a cut lasts."""
    shift_seconds: float = 15.0
    """How long one group of senders sends before the next one begins."""
    keep: str = ""
    """The folder in which stores, logs and ledgers are put aside; empty: they are removed."""


class Outcome(Struct, frozen=True, kw_only=True):
    """What came of a round."""

    seed: str
    faults: dict[str, int]
    partitions: int
    runs: int
    commits: int
    told: dict[str, int]
    """How many deliveries were accepted, refused …"""
    violations: list[str]
    healed_s: list[float]
    """Of each fault, from its end until every node was whole."""
    peace_s: float
    seconds: float

    def of(self, *promises: str) -> int:
        return sum(each.startswith(promises) for each in self.violations)


def play(plan: Plan, say: Say) -> Outcome:
    """The whole round; nothing of it is left afterwards."""
    began = time.monotonic()
    with cluster_field(plan.seed) as field:
        asyncio.run(field.cluster.start())
        field.open()
        say(f"{plan.seed}: ready after {time.monotonic() - began:.1f} s")
        return asyncio.run(_Round(field, plan, say, began).play())


class _Round:
    """One round while it is played."""

    def __init__(self, field: ClusterField, plan: Plan, say: Say, began: float) -> None:
        self._field, self._plan, self._say, self._began = field, plan, say, began
        self._senders: list[Process] = []
        self._over = asyncio.Event()
        self._gave_up = False
        self.struck: list[Struck] = []
        self.violations: list[Violation] = []

    async def play(self) -> Outcome:
        witness = stores.Witness(self._field.installed)
        async with companions() as beside:
            beside.create_task(witness.run())
            async with asyncio.TaskGroup() as group:
                group.create_task(self._send())
                group.create_task(self._strike_all())
            if self._gave_up:
                return self._outcome(Found(violations=[]), 0.0)
            self._say(f"{self._plan.seed}: {len(self.struck)} faults, all sent; peace")
            peace = time.monotonic()
            left_over = await until_over(self._field, self._say)
            peace_s = time.monotonic() - peace
            await self._dismiss()
            self.violations += [Violation("P3", each) for each in left_over]
            return await self._judged(witness, peace_s)

    # --- Load ---------------------------------------------------------------------------------

    async def _send(self) -> None:
        """Senders in shifts until the faults are over; returns when everybody has an answer."""
        runs = int(self._plan.rate * self._plan.shift_seconds)
        async with asyncio.TaskGroup() as group:
            while not self._over.is_set():
                label = f"k{self._plan.seed}s{len(self._senders)}"
                senders = self._field.senders(label, runs, self._plan.rate)
                self._senders.append(senders)
                group.create_task(self._until_sent(senders))
                await _within(self._over.wait(), self._plan.shift_seconds)

    async def _until_sent(self, senders: Process) -> None:
        said = await asyncio.to_thread(senders.line)
        if said != "sent" and not self._gave_up:
            raise RuntimeError("the senders ended before they were done")

    async def _dismiss(self) -> None:
        async with asyncio.TaskGroup() as group:
            for senders in self._senders:
                group.create_task(asyncio.to_thread(senders.stop))

    # --- Faults -------------------------------------------------------------------------------

    async def _strike_all(self) -> None:
        chance = random.Random(f"{self._plan.seed}/faults")
        try:
            for number, name in enumerate(self._plan.kinds, 1):
                calm = number % _CALM_EVERY == 0
                await asyncio.sleep(_CALM_SECONDS if calm else chance.uniform(*_BREATH_SECONDS))
                turn = Turn(chance=chance, seconds=chance.uniform(*self._plan.cut_seconds))
                self.struck.append(await self._strike(name, turn))
        except DidNotHeal as reason:
            # Nothing more can be asked of it: its logs are all the evidence that there is.
            self._gave_up = True
            self.violations.append(Violation("P9", str(reason)))
            await self._dismiss()
            self._keep(Path(tempfile.mkdtemp(prefix="chaos-cluster-")))
        finally:
            self._over.set()

    async def _strike(self, name: str, turn: Turn) -> Struck:
        kind, began = KINDS[name], time.time()
        try:
            said = await kind.strike(self._field, turn)
        finally:
            self._field.network.heal()
        ended = time.time()
        await until_healthy(self._field)
        struck = Struck(
            kind=name,
            began=began,
            ended=ended,
            healthy=time.time(),
            majority_lost=kind.majority_lost,
            said=said,
        )
        self._say(
            f"{self._plan.seed}: {name} {json.dumps(said)} {ended - began:.1f} s, "
            f"whole {struck.healthy - ended:.1f} s later"
        )
        return struck

    def _keep(self, where: Path) -> None:
        """Put the stores and the logs of the nodes aside: whoever looks for the cause needs them."""
        kept = where / self._plan.seed
        kept.mkdir(parents=True)
        (kept / "struck.json").write_bytes(msgspec.json.encode(self.struck))
        for what in (self._field.cluster.folder, self._field.installed.data / "logs", self._field.folder):
            shutil.copytree(what, kept / what.name)
        self._say(f"{self._plan.seed}: kept in {kept}")

    # --- Judging ------------------------------------------------------------------------------

    async def _judged(self, witness: stores.Witness, peace_s: float) -> Outcome:
        field = self._field
        record = Record(field.folder, {target.shape: target.trigger for target in field.targets})
        postgres = await field.installed.postgres()
        try:
            async with stores.operator(field.installed) as log:
                found = await Verdict(postgres, log, record, witness, Expected()).judge()
        finally:
            await postgres.close()
        rebuilt = await asyncio.to_thread(_rebuilt, field)
        if rebuilt["differences"]:
            self.violations.append(Violation("P6", f"rebuilt tables differ: {rebuilt['different']}"))
        told = told_in(field.folder / "ledger.jsonl")
        if self._plan.keep:
            self._keep(Path(self._plan.keep))
        self.violations += [*found.violations, *misjudged(told, self.struck)]
        return self._outcome(found, peace_s)

    def _outcome(self, found: Found, peace_s: float) -> Outcome:
        kinds = Counter(each.kind for each in self.struck)
        told = told_in(self._field.folder / "ledger.jsonl")
        return Outcome(
            seed=self._plan.seed,
            faults=dict(sorted(kinds.items())),
            partitions=sum(KINDS[each.kind].is_partition for each in self.struck),
            runs=found.runs,
            commits=found.commits,
            told=dict(sorted(Counter(each.what for each in told).items())),
            violations=[str(each) for each in self.violations],
            healed_s=[round(each.healthy - each.ended, 2) for each in self.struck],
            peace_s=round(peace_s, 1),
            seconds=round(time.monotonic() - self._began, 1),
        )


def _rebuilt(field: ClusterField) -> dict[str, Any]:
    said = field.installed.command("projections", "rebuild", "--verify", "--json", failing=True)
    told: dict[str, Any] = json.loads(said.strip().splitlines()[-1])
    return told


async def _within(awaited: Awaitable[object], seconds: float) -> None:
    try:
        async with asyncio.timeout(seconds):
            await awaited
    except TimeoutError:
        return
