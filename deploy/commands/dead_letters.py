"""`automateos dead-letters`: messages that no code could handle, as they lie in the log's DLQ."""

from typing import Annotated

from cyclopts import App, Parameter

from deploy.commands.here import ORG, Asked, Json, Org

app = App(name="dead-letters", help="Messages that no code could handle.")


@app.command(name="list")
async def list_(*, org: Org = ORG, as_json: Json = False, here: Asked) -> None:
    """List them, the oldest first, with the reason."""
    from deploy.operator.letters import letters
    from deploy.operator.reach import stores

    async with stores(here) as found:
        kept = await letters(found.log, org)
    here.show(
        kept,
        ("LETTER", "STREAM", "RUN", "TIME", "REASON"),
        lambda each: (str(each.number), each.stream, each.run, each.time[:19], each.reason),
        as_json=as_json,
    )


@app.command
async def redrive(
    letter: Annotated[int, Parameter(help="The letter's number.")], *, org: Org = ORG, here: Asked
) -> None:
    """Have the message handled again, take its run up if it is parked, and take the letter out of the DLQ."""
    from deploy.operator.letters import letters, redrive
    from deploy.operator.reach import stores
    from deploy.refusals import Refused

    async with stores(here) as found:
        kept = [each for each in await letters(found.log, org) if each.number == letter]
        if not kept:
            raise Refused(f"There is no dead letter {letter} in org {org}.")
        here.say(await redrive(found.log, kept[0]))
