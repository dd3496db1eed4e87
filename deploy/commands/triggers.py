"""`automateos triggers`: what starts runs, what it received last, and trying it out; past deliveries run again."""

from datetime import datetime
from typing import Annotated, Any, Final

from cyclopts import App, Parameter
from cyclopts.types import PositiveInt

from deploy.commands.here import Asked, Json, KeyFile

app = App(
    name="triggers",
    help="What starts runs: list it, see its deliveries, try it out, run past deliveries again.",
)

Trigger = Annotated[str, Parameter(help="The trigger's id.")]
_PAGE: Final = 50


@app.command(name="list")
def list_(
    *,
    workflow: str | None = None,
    limit: int = 20,
    key_file: KeyFile = None,
    as_json: Json = False,
    here: Asked,
) -> None:
    """List the newest triggers."""
    from deploy.operator.reach import api

    found = api(here, key_file).pages("/triggers", limit, workflow=workflow)
    here.show(
        found,
        ("TRIGGER", "KIND", "IS", "VERSION", "WORKFLOW", "NAME"),
        lambda each: (
            each["id"],
            each["kind"],
            "on" if each["enabled"] else "off",
            str(each["bound_version"] or "-"),
            each["workflow"],
            each["name"],
        ),
        as_json=as_json,
    )


@app.command
def deliveries(
    trigger: Trigger,
    *,
    result: str | None = None,
    limit: int = 20,
    key_file: KeyFile = None,
    as_json: Json = False,
    here: Asked,
) -> None:
    """List what it received last, also what started no run, with the reason."""
    from deploy.operator.reach import api

    found = api(here, key_file).pages(f"/triggers/{trigger}/deliveries", limit, result=result)
    here.show(
        found,
        ("RECEIPT", "TIME", "RESULT", "RUN", "REASON"),
        lambda each: (each["receipt"], each["time"][:19], each["result"], each["run"] or "-", each["reason"]),
        as_json=as_json,
    )


@app.command(name="test")
def attempt(  # noqa: PLR0913  # Each is an option of the command line.
    trigger: Trigger,
    *,
    body: Annotated[str, Parameter(help="The sample, as JSON; `-` reads standard input.")] = "null",
    delivery: Annotated[
        str | None, Parameter(help="A recorded delivery's receipt, instead of a sample.")
    ] = None,
    start: Annotated[
        bool, Parameter(negative="", help="Of a poll: the first thing that it finds starts the workflow.")
    ] = False,
    key_file: KeyFile = None,
    as_json: Json = False,
    here: Asked,
) -> None:
    """Start it once in test mode, or say why it would start nothing. A poll without a sample asks what it finds."""
    import sys

    import msgspec
    from msgspec import Raw

    from contracts.codec import Malformed, decode_json
    from deploy.operator.reach import api
    from deploy.refusals import Refused

    text = sys.stdin.read() if body == "-" else body
    try:
        decode_json(text.encode())
    except Malformed as malformed:
        raise Refused(f"The sample is not JSON: {malformed}") from malformed
    wanted: dict[str, Any] = {"delivery": delivery} if delivery is not None else {"body": Raw(text.encode())}
    told = api(here, key_file).post(f"/triggers/{trigger}/test", wanted | ({"start": True} if start else {}))
    if as_json:
        here.tell(told)
        return
    asked = told.get("asked")
    if asked is not None:
        here.say(f"asked by run {asked['run']} ({asked['status']}), found {asked['found']}")
        for each in asked["items"]:
            here.say(f"  {each['key']}  {msgspec.json.encode(each['item']).decode()[:200]}")
    if asked is None or told["run"] or told["reason"]:
        here.say(f"run {told['run']}" if told["run"] else f"nothing starts: {told['reason']}")


@app.command(name="run-again")
def run_again(  # noqa: PLR0913  # Each is an option of the command line.
    trigger: Trigger,
    *,
    name: Annotated[
        str, Parameter(help="Under one name each delivery starts one run, however often you call.")
    ],
    since: datetime,
    until: datetime,
    workflow: Annotated[str | None, Parameter(help="Another workflow than the trigger's own.")] = None,
    where: Annotated[str, Parameter(help="A filter over `trigger`, as it was then.")] = "",
    per_minute: Annotated[PositiveInt, Parameter(help="At most so many runs in any minute.")] = 60,
    go: Annotated[bool, Parameter(negative="", help="Start the runs; without it they are counted.")] = False,
    key_file: KeyFile = None,
    as_json: Json = False,
    here: Asked,
) -> None:
    """Run past deliveries through the version that is published now, the oldest first. Times without a zone are UTC."""
    from deploy.operator.pacing import Pace
    from deploy.operator.reach import api

    client, pace = api(here, key_file), Pace(per_minute, _PAGE)
    wanted: dict[str, Any] = {
        "name": name,
        "since": _zoned(since),
        "until": _zoned(until),
        "workflow": workflow,
        "filter": where,
        "dry_run": not go,
        "limit": pace.page if go else _PAGE,
    }
    sums = dict.fromkeys(("deliveries", "wanted", "started", "known", "skipped"), 0)
    while True:
        pace.begin()
        page = client.post(f"/triggers/{trigger}/run-again", wanted)
        pace.started(page["started"])
        for each in page["skipped"]:
            here.say(f"skipped {each['receipt']}: {each['reason']}")
        for counted in sums:
            sums[counted] += len(page[counted]) if counted == "skipped" else page[counted]
        if page["next"] is None:
            break
        wanted["cursor"] = page["next"]
    if as_json:
        here.tell(sums)
    elif go:
        here.say(", ".join(f"{counted} {count}" for counted, count in sums.items()))
    else:
        here.say(f"{sums['wanted']} of {sums['deliveries']} deliveries would be run again; --go does it")


def _zoned(moment: datetime) -> str:
    from datetime import UTC

    return (moment if moment.tzinfo is not None else moment.replace(tzinfo=UTC)).isoformat()
