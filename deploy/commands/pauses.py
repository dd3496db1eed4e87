"""`automateos pauses`: hold back what an org, a workflow or a pool would do, and take it up again."""

from typing import Annotated, Literal

from cyclopts import App, Parameter

from deploy.commands.here import Asked, Json, KeyFile, table

app = App(name="pauses", help="What is paused and what is held; pausing and taking up again.")

What = Annotated[
    Literal["org", "workflow", "pool"],
    Parameter(help="The whole org, one workflow, or what the org wants of a pool."),
]
Name = Annotated[str, Parameter(help="The org's id, the workflow's, or the pool's name.")]


@app.command(name="list")
def list_(*, key_file: KeyFile = None, as_json: Json = False, here: Asked) -> None:
    """List what is paused, by whom and why; and how many attempts are held, pool by pool."""
    from deploy.operator.reach import api

    told = api(here, key_file).get("/pauses")
    if as_json:
        here.tell(told)
        return
    rows = [
        (each["what"], each["name"], each["by"], each["since"][:19], each["reason"])
        for each in told["pauses"]
    ]
    for line in table(rows, ("PAUSED", "NAME", "BY", "SINCE", "REASON")):
        here.say(line)
    lanes = [
        (each["pool"], str(each["waiting"]), str(each["paused"]), str(each["out"])) for each in told["held"]
    ]
    for line in table(lanes, ("POOL", "WAITING", "PAUSED", "ASKED FOR")) if lanes else ():
        here.say(line)


@app.command
def begin(what: What, name: Name, *, reason: str = "", key_file: KeyFile = None, here: Asked) -> None:
    """Pause: runs start and wait, what is under way goes on to its end."""
    from deploy.operator.reach import api

    told = api(here, key_file).post("/pauses/begin", {"what": what, "name": name, "reason": reason})
    here.say(f"{told['what']} {told['name']} is paused since {told['since'][:19]}, by {told['by']}")


@app.command
def end(what: What, name: Name, *, key_file: KeyFile = None, here: Asked) -> None:
    """Take it up again: what was held is asked for."""
    from deploy.operator.reach import api

    api(here, key_file).post("/pauses/end", {"what": what, "name": name})
    here.say(f"{what} {name} goes on")
