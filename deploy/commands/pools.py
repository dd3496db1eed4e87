"""`automateos pools`: who takes which tasks, holding a pool, sending an executor home, tokens of workers outside."""

from typing import Annotated, Any

from cyclopts import App, Parameter
from msgspec import ValidationError

from contracts.pools import Labels, labels_in
from deploy.commands.here import Asked, Here, Json, KeyFile, table
from deploy.refusals import Refused

app = App(name="pools", help="Pools of executors, and of workers outside.")

Pool = Annotated[str, Parameter(help="The pool's name.")]


@app.command(name="list")
def list_(*, key_file: KeyFile = None, as_json: Json = False, here: Asked) -> None:
    """List the pools: what waits, what is under way, and who is there."""
    from deploy.operator.reach import api

    items = api(here, key_file).get("/pools")["items"]
    here.show(
        items,
        ("POOL", "STATE", "WAITING", "UNDER WAY", "CAPACITY", "EXECUTORS"),
        lambda each: (
            each["name"],
            "held" if each["paused"] else "open",
            str(each["waiting"]),
            str(each["under_way"]),
            str(each["capacity"]),
            str(sum(not one["lost"] for one in each["executors"])),
        ),
        as_json=as_json,
    )


@app.command
def show(pool: Pool, *, key_file: KeyFile = None, as_json: Json = False, here: Asked) -> None:
    """Show one pool's executors."""
    from deploy.operator.reach import api

    told = api(here, key_file).get(f"/pools/{pool}")
    if as_json:
        here.tell(told)
        return
    _say_state(told, here)
    rows = [
        (
            each["id"],
            "lost" if each["lost"] else "draining" if each["draining"] else "there",
            f"{each['under_way']}/{each['capacity']}",
            each["last_seen"][:19],
            ",".join(f"{name}={text}" for name, text in sorted(each["labels"].items())),
        )
        for each in told["executors"]
    ]
    for line in table(rows, ("EXECUTOR", "STATE", "UNDER WAY", "LAST SEEN", "LABELS")):
        here.say(line)


@app.command
def pause(pool: Pool, *, key_file: KeyFile = None, here: Asked) -> None:
    """Hold what waits in a pool. What is under way goes on."""
    from deploy.operator.reach import api

    _say_state(api(here, key_file).post(f"/pools/{pool}/pause"), here)


@app.command
def resume(pool: Pool, *, key_file: KeyFile = None, here: Asked) -> None:
    """Let go on what was held."""
    from deploy.operator.reach import api

    _say_state(api(here, key_file).post(f"/pools/{pool}/resume"), here)


@app.command
def drain(
    pool: Pool,
    executor: Annotated[str, Parameter(help="The executor's id, as `show` tells it.")] = "",
    *,
    labels: Annotated[
        str, Parameter(help="Instead of one: all that have these labels, such as zone=a.")
    ] = "",
    key_file: KeyFile = None,
    here: Asked,
) -> None:
    """Have an executor, or all with some labels, take nothing more, end what they have, and leave."""
    from deploy.operator.reach import api

    if bool(executor) == bool(labels):
        raise Refused("Name one executor, or the --labels of those that are to leave.")
    client = api(here, key_file)
    if executor:
        drained = [client.post(f"/pools/{pool}/executors/{executor}/drain")]
    else:
        drained = client.post(f"/pools/{pool}/drain", {"labels": _said(labels)})["items"]
    for each in drained:
        here.say(f"{each['id']} drains: {each['under_way']} attempts to end")


@app.command
def token(
    pool: Annotated[str, Parameter(help="A pool of workers outside: its name begins with `ext-`.")],
    name: Annotated[str, Parameter(help="What people call the token.")],
    *,
    key_file: KeyFile = None,
    here: Asked,
) -> None:
    """Make a token for a pool's workers outside and print it: it cannot be shown again. `keys revoke` takes it back."""
    from deploy.operator.reach import api

    here.say(api(here, key_file).post(f"/pools/{pool}/tokens", {"name": name})["key"])


def _said(labels: str) -> Labels:
    try:
        return labels_in(labels)
    except ValidationError as error:
        raise Refused(f"{labels!r} is not a list of labels such as zone=a,gpu=l4.") from error


def _say_state(told: dict[str, Any], here: Here) -> None:
    held = "held" if told["paused"] else "open"
    here.say(f"{told['name']} is {held}: {told['waiting']} wait, {told['under_way']} under way")
