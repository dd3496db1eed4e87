"""`automateos events`: what programs outside may subscribe to."""

from cyclopts import App

from deploy.commands.here import ORG, Asked, Json, Org

app = App(name="events", help="What programs outside may subscribe to.")


@app.command
async def tail(*, org: Org = ORG, as_json: Json = False, here: Asked) -> None:
    """Follow every commit of an org as an external consumer does: through its account, with its key, read-only."""
    from deploy.operator.outside import follow

    async for line in follow(here, org, as_json=as_json):
        here.say(line)
