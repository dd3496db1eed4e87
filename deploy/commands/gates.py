"""`automateos gates`: at which limits runs are, who is inside, and who waits."""

from typing import Annotated, Any, Literal

from cyclopts import App, Parameter

from contracts.gates import ALL_RUNS
from deploy.commands.here import Asked, Json, KeyFile, table
from deploy.refusals import Refused

app = App(name="gates", help="Limits of workflows: who is inside, and who waits.")

Gate = Annotated[str, Parameter(help="The gate's id, as the list tells it.")]
Standing = Annotated[
    Literal["inside", "waiting"] | None, Parameter(help="Only those inside, or only those who wait.")
]


@app.command(name="list")
def list_(*, limit: int = 20, key_file: KeyFile = None, as_json: Json = False, here: Asked) -> None:
    """List the gates at which somebody is: how many are inside, how many wait, and since when."""
    from deploy.operator.reach import api

    found = api(here, key_file).pages("/gates", limit)
    if as_json:
        for each in found:
            here.tell(each)
        return
    rows = [
        (
            each["gate"],
            each["limit"],
            each["key"],
            _allowed(each["bounds"]),
            str(each["inside"]),
            str(each["waiting"]),
            (each["waiting_since"] or "")[:19],
        )
        for each in found
    ]
    for line in table(rows, ("GATE", "LIMIT", "KEY", "ALLOWS", "INSIDE", "WAITING", "SINCE")):
        here.say(line)


@app.command
def show(
    gate: Gate,
    *,
    standing: Standing = None,
    limit: int = 20,
    key_file: KeyFile = None,
    as_json: Json = False,
    here: Asked,
) -> None:
    """Show the runs at a gate: who is inside, and who waits, in the order in which they come in."""
    from deploy.operator.reach import api

    found = api(here, key_file).pages(f"/gates/{gate}", limit, standing=standing)
    if as_json:
        for each in found:
            here.tell(each)
        return
    rows = [(each["run"], each["standing"], each["since"][:19], each["workflow"]) for each in found]
    for line in table(rows, ("RUN", "IS", "SINCE", "WORKFLOW")):
        here.say(line)


@app.command
def limits(*, key_file: KeyFile = None, as_json: Json = False, here: Asked) -> None:
    """List what the org says of gates that its workflows share, and of all its runs."""
    from deploy.operator.reach import api

    told = api(here, key_file).get("/limits")["limits"]
    if as_json:
        here.tell(told)
        return
    rows = [(name, _allowed(limit), str(limit.get("queue", ""))) for name, limit in sorted(told.items())]
    for line in table(rows, ("LIMIT", "ALLOWS", "MAY WAIT")):
        here.say(line)


@app.command
def limit(  # Each is an option of the command line.
    name: Annotated[
        str, Parameter(help="What workflows call the limit; or all-runs, for every run of the org.")
    ],
    *,
    at_once: Annotated[int | None, Parameter(help="So many runs may be inside.")] = None,
    rate: Annotated[str | None, Parameter(help="So many in so many seconds, as in 100/60.")] = None,
    queue: Annotated[int | None, Parameter(help="So many may wait.")] = None,
    key_file: KeyFile = None,
    here: Asked,
) -> None:
    """Say what a gate that the org's workflows share lets in, or that of all its runs; without any bound: say nothing of it."""
    from deploy.operator.reach import api

    wanted: dict[str, Any] = {"at_once": at_once, "queue": queue}
    if rate is not None:
        count, _, seconds = rate.partition("/")
        if not (count.isdigit() and seconds.isdigit()):
            raise Refused("A rate is a number, a slash, and a number of seconds: 100/60.")
        wanted["rate"] = {"count": int(count), "seconds": int(seconds)}
    said = {name: value for name, value in wanted.items() if value is not None}
    reached = api(here, key_file)
    others = {each: limit for each, limit in reached.get("/limits")["limits"].items() if each != name}
    reached.put("/limits", {"limits": others | ({name: said} if said else {})})
    nothing = "no limit" if name == ALL_RUNS else "what the workflows say"
    here.say(f"{name}: {_allowed(said) or nothing}")


def _allowed(bounds: dict[str, Any]) -> str:
    """What a gate lets in, in short."""
    rate, debounce, batch = bounds.get("rate"), bounds.get("debounce"), bounds.get("batch")
    if debounce:
        return f"the newest, {debounce['seconds']:g} s after it"
    if batch:
        return f"{batch['size']} as one, or after {batch['seconds']:g} s"
    told = [f"{bounds['at_once']} at once"] if bounds.get("at_once") else []
    return ", ".join([*told, f"{rate['count']} in {rate['seconds']:g} s"] if rate else told)
