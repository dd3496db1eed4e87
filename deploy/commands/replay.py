"""`automateos replay`: decide the installation's own past again, with the release that is installed now."""

from typing import Annotated

from cyclopts import Parameter
from msgspec.structs import asdict

from deploy.commands.here import Asked, Json


async def replay(
    *,
    since: Annotated[
        str,
        Parameter(help="A moment (2026-11-20, 2026-11-20T12:00:00Z), a time ago (36h, 7d), or beginning."),
    ],
    org: Annotated[str, Parameter(help="One org's runs only.")] = "",
    as_json: Json = False,
    here: Asked,
) -> int:
    """Decide again every run that moved since then, from its beginning; tell each that this release decides differently."""
    from chassis.clock import SystemClock
    from deploy.operator import redeciding
    from deploy.operator.reach import LONG_SECONDS, stores
    from deploy.operator.replays import parting_lines

    moment = redeciding.since(since, SystemClock().now())
    async with stores(here, statement_seconds=LONG_SECONDS) as found:
        past = redeciding.Redeciding(found, moment, org)
        async for parting in past.partings():
            if as_json:
                here.tell(parting)
                continue
            for line in parting_lines(parting):
                here.say(line)
    tally = past.tally
    if as_json:
        here.tell({**asdict(tally), "since": moment, "events_per_s": round(tally.events_per_s)})
    else:
        here.say(
            f"{tally.runs} runs with {tally.events} events decided again in {tally.seconds:.1f} s: "
            + (f"{tally.diverged} part from their histories" if tally.diverged else "each as it was")
        )
    return 1 if tally.diverged else 0
