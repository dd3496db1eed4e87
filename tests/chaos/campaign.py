"""One round: load and faults on a field, then peace, then the verdict."""

import asyncio
import json
import random
import time
from collections.abc import Callable, Sequence
from typing import Any, Final

from msgspec import Struct

from chassis.lifecycle import companions
from chassis.ports import Away
from tests.chaos import stores
from tests.chaos.deck import drawn
from tests.chaos.field import Field, Process
from tests.chaos.record import Record
from tests.chaos.striker import Striker, Struck, outages
from tests.chaos.verdict import Expected, Found, Verdict, nothing_but
from tests.promises.checker import every_process_comes_back
from tests.promises.evidence import Violation

Say = Callable[[str], None]
PEACE_SECONDS: Final = 120.0
"""How long everything may take to be over after the last fault."""
_OPEN: Final = "select count(*) from read.runs where ended is null and not (id = any($1))"


class Plan(Struct, frozen=True, kw_only=True):
    """What a round shall be."""

    number: int
    seed: str
    runs: int
    faults: int
    rate: float
    retention_days: str
    only: tuple[str, ...] = ()
    longest: float = 60.0
    """No fault lasts longer."""
    patient: bool = True
    """Faults that want to be alone are."""
    crashed: dict[str, int] = {}
    """How often each named place was struck in the rounds before (`Field.crashed`)."""

    @property
    def label(self) -> str:
        return f"{self.seed}-{self.number}"


class Round(Struct, kw_only=True):
    """What came of it."""

    plan: Plan
    struck: list[Struck]
    found: Found
    record: Record
    witness: stores.Witness
    peace_s: float
    lasted_s: float
    rebuilt: dict[str, Any]


async def play(field: Field, plan: Plan, say: Say) -> Round:
    """Load and faults, peace, verdict. The field is open."""
    began = time.monotonic()
    witness = stores.Witness(field.installed)
    faults = drawn(random.Random(f"{plan.label}/faults"), plan.faults, plan.only, clock=field.clock)
    field.crashed.update(plan.crashed)
    striker = Striker(
        field, faults, seconds=plan.runs / plan.rate, longest=plan.longest, patient=plan.patient
    )
    async with companions() as beside:
        beside.create_task(witness.run())
        if field.worker is not None:
            beside.create_task(field.worker.keep())
        senders = field.senders(plan.label, plan.runs, plan.rate)
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(asyncio.to_thread(_until_sent, senders))
                group.create_task(striker.run())
        except BaseException:
            senders.stop()  # A thread waits for what they say.
            raise
        say(f"{plan.label}: sent after {time.monotonic() - began:.0f} s, {len(striker.struck)} faults; peace")
        peace = time.monotonic()
        await asyncio.to_thread(field.stop_starters)
        left_over = await until_over(field, say)
        peace_s = time.monotonic() - peace
        await asyncio.to_thread(senders.stop)
        say(f"{plan.label}: over {peace_s:.1f} s later; the verdict")
        record = Record(field.folder, {target.shape: target.trigger for target in field.targets})
        found = await judged(field, record, witness)
    found.violations += wrong(striker.struck)
    found.violations += [Violation("P3", f"after {PEACE_SECONDS} s: {each}") for each in left_over]
    found.violations += [Violation("P9", each) for each in _forbidden(field)]
    rebuilt = await asyncio.to_thread(_rebuilt, field)
    if rebuilt["differences"]:
        found.violations.append(Violation("P6", f"rebuilt tables differ: {rebuilt['different']}"))
    return Round(
        plan=plan,
        struck=striker.struck,
        found=found,
        record=record,
        witness=witness,
        peace_s=peace_s,
        lasted_s=time.monotonic() - began,
        rebuilt=rebuilt,
    )


def wrong(struck: Sequence[Struck]) -> list[Violation]:
    """What the faults themselves have seen."""
    found = [
        Violation("P9", f"{each.name}: {each.said['wrong']}") for each in struck if each.said.get("wrong")
    ]
    found += every_process_comes_back(nothing_but(outages=outages(struck)), ())
    found += [
        Violation("P3", f"{each.name}: for {each.ended - each.began:.1f} s nobody went on beside it")
        for each in struck
        if each.alone and each.said.get("commits_beside") == 0
    ]
    return found


def _until_sent(senders: Process) -> None:
    if senders.line() != "sent":
        raise RuntimeError("the senders ended before they were done")


async def judged(field: Field, record: Record, witness: stores.Witness) -> Found:
    """What the stores, the senders, the world and the witness say together."""
    expected = Expected(
        poison=field.poisoned,
        strange_runs=frozenset(field.strange),
        clocks=field.clock,
        purges=field.purges,
        outside=field.worker is not None,
    )
    postgres = await field.installed.postgres()
    try:
        async with stores.operator(field.installed) as log:
            return await Verdict(postgres, log, record, witness, expected).judge()
    finally:
        await postgres.close()


async def until_over(field: Field, say: Say) -> list[str]:
    """Wait until every run has ended and nothing lies anywhere; what is left when patience ends."""
    end = time.monotonic() + PEACE_SECONDS
    left, quiet = ["nobody has looked"], 0
    async with stores.operator(field.installed) as log:
        while time.monotonic() < end and quiet < 3:
            try:
                left = await _left(field, log)
            except (OSError, Away) as away:
                left = [str(away)]
            quiet = 0 if left else quiet + 1
            await asyncio.sleep(0.3)
    if left:
        say(f"left over: {left}")
    return left


async def _left(field: Field, log: Any) -> list[str]:
    left: list[str] = []
    if not await asyncio.to_thread(field.installed.ready):
        left.append("a service is not ready")
    [[open_runs]] = await field.installed.rows(_OPEN, sorted(field.strange))
    if open_runs:
        left.append(f"{open_runs} open runs")
    behind = await _behind(field, log)
    return left + behind + await stores.left(log, outside=field.worker is not None)


async def _behind(field: Field, log: Any) -> list[str]:
    """Projections that have not read their stream to its end."""
    found: list[str] = []
    for row in await field.installed.rows("select projection, stream, sequence from read.positions"):
        state = (await log.api(f"STREAM.INFO.{row['stream']}"))["state"]
        if state["last_seq"] > row["sequence"]:
            found.append(
                f"{row['projection']} is {state['last_seq'] - row['sequence']} behind {row['stream']}"
            )
    return found


def _forbidden(field: Field) -> list[str]:
    """Services that asked for what they may not: something of theirs never happens."""
    logs = sorted((field.installed.data / "logs").glob("*.log"))
    return [f"{each.name} was forbidden something" for each in logs if b"nats.forbidden" in each.read_bytes()]


def _rebuilt(field: Field) -> dict[str, Any]:
    said = field.installed.command("projections", "rebuild", "--verify", "--json", failing=True)
    told: dict[str, Any] = json.loads(said.strip().splitlines()[-1])
    return told
