"""`automateos projections`: the read models, made anew from the log."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Annotated

from cyclopts import App, Parameter

from deploy.commands.here import Asked, Json, table

app = App(name="projections", help="The read models.")


@app.command
async def rebuild(
    *,
    verify: Annotated[
        bool, Parameter(negative="", help="Also tell where the tables that are replaced differ.")
    ] = False,
    as_json: Json = False,
    here: Asked,
) -> int:
    """Make the read models anew beside the live ones and swap them in. The services work on meanwhile."""
    from chassis.postgres import facts
    from deploy.database import sql_file
    from deploy.operator.alone import servers
    from deploy.operator.reach import settings_as
    from projections import commands

    async with servers(here) as found:
        settings = settings_as(here, found, "projections", "projector")
        owner = facts(settings_as(here, found, role="owner"))
        with mendable():
            rebuilt = await commands.rebuild(settings, owner, sql_file("read"), verify=verify)
    if as_json:
        here.tell(
            {
                "messages": rebuilt.messages,
                "events": rebuilt.events,
                "seconds": rebuilt.seconds,
                "differences": sum(each.rows for each in rebuilt.differences),
                "different": rebuilt.differences,
            }
        )
        return 1 if rebuilt.differences else 0
    here.say(
        f"read models made anew: {rebuilt.messages} messages, {rebuilt.events} events in {rebuilt.seconds:.1f} s"
    )
    if verify and not rebuilt.differences:
        here.say("the tables that were replaced were equal, row by row")
    rows = [
        (each.table, each.only_in, str(each.rows), ", ".join(each.samples)) for each in rebuilt.differences
    ]
    for line in table(rows, ("TABLE", "ONLY IN", "ROWS", "SUCH AS")) if rows else ():
        here.say(line)
    return 1 if rebuilt.differences else 0


@app.command
async def repair(
    stream: Annotated[str, Parameter(help="RUNS or DOMAIN.")], *, as_json: Json = False, here: Asked
) -> int:
    """Give the log back what the archive still has of it. The stack must not run meanwhile."""
    from deploy.operator.alone import started
    from deploy.operator.reach import settings_as
    from deploy.operator.repairing import repair as give_back

    async with started(here) as found:
        with mendable():
            repaired = await give_back(settings_as(here, found, role="projector"), stream)
    if as_json:
        here.tell(repaired)
    else:
        here.say(
            f"{stream}: {repaired.histories} histories compared, {repaired.given_back} commits given back; "
            f"the log is in epoch {repaired.epoch} now"
        )
        for subject in repaired.forked:
            here.say(
                f"{subject} went on in another way than the archive's copy: no program can say which is true"
            )
    return 1 if repaired.forked else 0


@contextmanager
def mendable() -> Iterator[None]:
    """What a service would refuse to start for is one line here too."""
    from chassis.lifecycle import CannotStart
    from deploy.refusals import Refused
    from deploy.wiring import quiet_logs

    quiet_logs()
    try:
        yield
    except CannotStart as reason:
        raise Refused(str(reason)) from reason
