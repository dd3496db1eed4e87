"""`automateos keys`: API keys. A key's text is shown once, when it is issued."""

from typing import Annotated

from cyclopts import App, Parameter

from deploy.commands.here import Asked, Json, KeyFile

app = App(name="keys", help="API keys.")


@app.command
def issue(
    name: Annotated[str, Parameter(help="What people call it.")],
    *scopes: Annotated[str, Parameter(help="Such as runs:read; `all`: every scope there is.")],
    key_file: KeyFile = None,
    as_json: Json = False,
    here: Asked,
) -> None:
    """Issue a key with these scopes and print it: it cannot be shown again."""
    from deploy.operator.reach import api
    from deploy.refusals import Refused
    from gateway.permissions import SCOPES

    if not scopes:
        raise Refused(f"Name the key's scopes, or `all`: {', '.join(sorted(SCOPES))}.")
    wanted = sorted(SCOPES) if scopes == ("all",) else scopes
    issued = api(here, key_file).post("/keys", {"name": name, "scopes": wanted})
    if as_json:
        here.tell(issued)
    else:
        here.say(issued["key"])


@app.command(name="list")
def list_(*, key_file: KeyFile = None, as_json: Json = False, here: Asked) -> None:
    """List keys, without their texts."""
    from deploy.operator.reach import api

    items = api(here, key_file).get("/keys")["items"]
    here.show(
        items,
        ("ID", "NAME", "STATE", "CREATED", "LAST USED"),
        lambda each: (
            each["id"],
            each["name"],
            "revoked" if each["revoked"] else "valid",
            each["created"][:19],
            (each["last_used"] or "never")[:19],
        ),
        as_json=as_json,
    )


@app.command
def revoke(
    key: Annotated[str, Parameter(help="The key's id.")], *, key_file: KeyFile = None, here: Asked
) -> None:
    """Revoke a key: from the next request on it opens nothing."""
    from deploy.operator.reach import api

    api(here, key_file).delete(f"/keys/{key}")
    here.say(f"{key} revoked")
