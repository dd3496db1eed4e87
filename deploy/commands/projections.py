"""`automateos projections`: the read models, made anew from the log."""

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
    from deploy.operator.reach import stores
    from deploy.operator.rebuilding import rebuild as made_anew

    async with stores(here) as found:
        rebuilt = await made_anew(here, found.log, verify=verify)
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
