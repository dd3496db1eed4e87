"""One seed, one schedule: faults first, then calm in which everything must end, then judgement. And how to narrow it down."""

import gc
import re
import traceback
from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from datetime import timedelta
from functools import partial
from typing import Final

import structlog
from msgspec import Struct, structs

from chassis.past import MARKED_SECONDS
from chassis.testing.loop import TooLong, resolve
from chassis.testing.world import START, Fault, Rates
from contracts.codec import Decoder
from contracts.runs import TERMINAL
from contracts.subjects import DOMAIN, RUNS
from contracts.triggers import Hook
from tests.promises.checker import check, every_run_ends_or_waits
from tests.promises.evidence import Evidence, Violation
from tests.simulation.clocks import left_undecided
from tests.simulation.coverage import seen_in
from tests.simulation.installation import Installation
from tests.simulation.processes import HOUR
from tests.simulation.told import Story
from tests.simulation.workflows import story

_hook: Final = Decoder[Hook](Hook)
STORM: Final = Rates()
STORM_SECONDS: Final = 12.0
STORM_STEPS: Final = 20_000
PATIENCE_SECONDS: Final = 60.0
"""By then everything must be over after the last fault, or have gone on; clocks that were ahead have made some waits an
hour longer."""
PATIENT: Final = 4
"""So many times nobody is called stuck as long as histories grow: fifty runs that wait for each other take minutes."""
PATIENCE_STEPS: Final = 400_000
MOST_STEPS: Final = 8_000
MOST_STEPS_PER_SECOND: Final = 40
MOST_STEPS_PER_COMMIT: Final = 120
"""Several times what a schedule takes: more is somebody who does the same again and again without a pause."""


class Played(Struct, kw_only=True):
    """What came of a schedule."""

    seed: int
    violations: Sequence[Violation]
    struck: Sequence[tuple[float, Fault]]
    steps: int
    seconds: float
    runs: int
    kills: int
    effects: int
    seen: Mapping[str, int]
    """What happened, and how often: events, nodes, faults of each store, and what is rare."""

    @property
    def failed(self) -> bool:
        return bool(self.violations)


@contextmanager
def quiet() -> Iterator[None]:
    """Nobody logs: a storm would fill the screen. The collector of garbage rests: what was imported stays anyway."""
    logging, collecting = structlog.get_config(), gc.get_threshold()
    structlog.configure(
        wrapper_class=structlog.make_filtering_bound_logger(50),
        logger_factory=structlog.ReturnLoggerFactory(),
    )
    gc.freeze()
    gc.set_threshold(10_000, 50, 50)
    try:
        yield
    finally:
        gc.unfreeze()
        gc.set_threshold(*collecting)
        structlog.configure(**logging)


def play(
    seed: int, rates: Rates = STORM, only: Collection[Fault] | None = None, told: Story | None = None
) -> Played:
    """Play one schedule. `only`: with these faults and no others."""
    played, _ = lived(Installation(seed, told or story(seed), rates, only))
    return played


def lived(installation: Installation) -> tuple[Played, Evidence]:
    """Play an installation to its end, and judge it."""
    world = installation.world
    violations: list[Violation] = []
    try:
        _run(installation, violations)
        evidence = evidence_of(installation)
        violations += check(evidence)
    finally:
        world.loop.close()
    played = Played(
        seed=world.seed,
        violations=violations,
        struck=world.struck,
        steps=world.loop.steps,
        seconds=world.loop.time(),
        runs=len(installation.runs.ever),
        kills=installation.processes.kills,
        effects=len(installation.outside.effects),
        seen=seen_in(installation, evidence),
    )
    return played, evidence


def _run(installation: Installation, violations: list[Violation]) -> None:
    loop = installation.world.loop
    try:
        installation.start()
        with suppress(TooLong):  # A storm that takes many steps is one that is long enough.
            loop.run_until(lambda: loop.time() > STORM_SECONDS, steps=STORM_STEPS, seconds=60, every=64)
        violations += _waits_have_names(installation)
        installation.calm()
        _until_over(installation)
        if installation.comes_back:
            installation.rest()
            passed = loop.create_future()
            loop.call_in("", installation.comes_back_after, resolve, passed, None)
            loop.run_until(passed.done, steps=PATIENCE_STEPS, seconds=2 * installation.comes_back_after)
            installation.much_later()
            _until_over(installation)
    except TooLong as late:
        violations.append(Violation("P3", f"not over after {late}"))
    except Exception as error:
        violations.append(Violation("crash", _told(error, loop.failures)))
    said = MOST_STEPS_PER_COMMIT * len(installation.runs.messages)
    if loop.steps > MOST_STEPS + MOST_STEPS_PER_SECOND * loop.time() + said:
        violations.append(Violation("P3", f"spun: {loop.steps} steps in {loop.time():.0f} s"))
    violations += [
        Violation("stop", f"{name} did not stop in time") for name in installation.processes.cut_off
    ]


def _waits_have_names(installation: Installation) -> Iterator[Violation]:
    """In the middle of the storm, too, a run has ended or waits for something that the API can name."""
    in_the_storm = structs.replace(evidence_of(installation), everything_over=False)
    histories = in_the_storm.histories()
    for history in histories:
        history.state = installation.person.state_of(history.stored[0].subject)
    return every_run_ends_or_waits(in_the_storm, histories)


def _until_over(installation: Installation) -> None:
    world, over = installation.world, partial(is_over, installation)
    were_ahead = any(fault.kind == "clock_jumped" for _, fault in world.struck)
    seconds = PATIENCE_SECONDS + HOUR if were_ahead else PATIENCE_SECONDS
    if installation.story.tombstones is not None:
        seconds += 2 * MARKED_SECONDS
    for last in (*[False] * (PATIENT - 1), True):
        said = len(installation.runs.messages)
        try:
            world.loop.run_until(over, steps=PATIENCE_STEPS, seconds=seconds, every=64)
        except TooLong:
            if last or len(installation.runs.messages) == said:
                raise
        else:
            return


def _told(error: BaseException, failures: Sequence[tuple[str, BaseException]]) -> str:
    text = "".join(traceback.format_exception(error))
    return f"{failures[:1]} {text}"


def is_over(installation: Installation) -> bool:
    """Every sender has its answer, every run has ended, everybody is there, and nothing lies anywhere to be taken."""
    rows = installation.models.tables.runs
    return (
        all(client.done() for client in installation.clients)
        and installation.models.at.sequence == len(installation.runs.messages)
        and all(row.status in TERMINAL for row in rows.values())
        and all(
            (row.org, handler) in rows
            for row in rows.values()
            for handler in filter(None, row.handlers.split(","))
        )
        and installation.processes.all_are_back
        and not left_undecided(installation.domain, installation.fires)
        and is_followed(installation)
        and not left_in(installation)
    )


def is_followed(installation: Installation) -> bool:
    """Whether everything was read that a trigger may follow."""
    logs = ((RUNS, installation.runs), (DOMAIN, installation.domain))
    return not installation.story.follows or all(
        installation.followed[stream].at.sequence == len(log.messages) for stream, log in logs
    )


def left_in(installation: Installation) -> list[str]:
    left = [
        f"inbox {n}: {letter.body[:80]!r}"
        for n, lying in enumerate(installation.inbox.letters)
        for letter in lying.values()
    ]
    return left + [f"task {subject}" for subject in installation.tasks.tasks]


def evidence_of(installation: Installation) -> Evidence:
    return Evidence(
        messages=installation.runs.messages,
        ledger=installation.ledger,
        effects=installation.outside.effects,
        claims=Counter(stored.subject for stored in installation.effects.messages),
        wishes=installation.person.wishes,
        said=installation.person.said,
        answered=installation.person.answered,
        meant=installation.person.meant,
        plans={
            plan: drawn.plan for plan, drawn in installation.plans.items() if drawn.stored and drawn.readable
        },
        values=installation.blobs.kept,
        tables=installation.models.tables,
        now=START + timedelta(seconds=installation.world.loop.time()),
        left=left_in(installation),
        poison=installation.poison,
        outages=[outage for of_one in installation.processes.outages.values() for outage in of_one],
        dead_letters=[subject for subject, _, _ in installation.dead.stored],
        seed=installation.world.seed,
        triggers=installation.domain.messages,
        fires=installation.fires.messages,
        again=installation.historian.again,
        gates=installation.gates.messages,
        hooks=[_hook(body) for _, body, _ in installation.hooks.stored] if installation.story.follows else (),
        decoded=installation.decoded,
        segment=installation.story.segment,
    )


def minimised(seed: int, rates: Rates = STORM) -> Played:
    """The same schedule with as few of its faults as it still breaks the same promise with."""
    whole = play(seed, rates)
    if not whole.failed:
        return whole
    broken = _kind(whole.violations[0])

    def still_fails(faults: Sequence[Fault]) -> Played | None:
        played = play(seed, rates, faults)
        return played if any(_kind(violation) == broken for violation in played.violations) else None

    faults = [fault for _, fault in whole.struck]
    smallest, size = still_fails(faults) or whole, max(1, len(faults) // 2)
    while size:
        place = 0
        while place < len(faults):
            fewer = faults[:place] + faults[place + size :]
            tried = still_fails(fewer)
            if tried is None:
                place += size
            else:
                faults, smallest = fewer, tried
        size //= 2
    return smallest


def _kind(violation: Violation) -> str:
    """What a violation says, without the ids and numbers in it."""
    return f"{violation.promise} {re.sub(r'[0-9a-f-]{8,}|[0-9.]+', '', violation.what)[:60]}"
