"""`automateos secrets`: values go in, are listed by name, are deleted. None ever comes out."""

import sys
from typing import Annotated, Any, Final, Literal

from cyclopts import App, Parameter

from deploy.commands.here import Asked, Json, KeyFile
from deploy.refusals import Refused

app = App(name="secrets", help="Sealed secrets: what goes in is never shown again.")

Kind = Literal["text", "bearer", "hmac", "basic", "smtp", "header", "api_key_query"]

# Kind → the field that is the secret, and the one that is told beside it.
_FIELDS: Final = {
    "text": ("text", ""),
    "bearer": ("token", ""),
    "hmac": ("key", ""),
    "basic": ("password", "user"),
    "smtp": ("password", "user"),
    "header": ("value", "name"),
    "api_key_query": ("value", "name"),
}


@app.command
def put(  # noqa: PLR0913  # Each is an option of the command line.
    name: Annotated[str, Parameter(help="What people call it.")],
    *,
    kind: Kind = "text",
    beside: Annotated[
        str, Parameter(name=["--user", "--field"], help="The user, or the header's or parameter's name.")
    ] = "",
    allow: Annotated[tuple[str, ...], Parameter(name="--allow", help="A host it may be sent to.")] = (),
    key_file: KeyFile = None,
    as_json: Json = False,
    here: Asked,
) -> None:
    """Store a secret; its value is read from standard input, without an echo at a terminal. A name again rotates it."""
    from deploy.operator.reach import api

    field, other = _FIELDS[kind]
    if bool(other) != bool(beside):
        raise Refused(
            f"A secret of kind {kind} {f'needs its {other}' if other else 'has neither user nor field'}."
        )
    value: dict[str, Any] = {"kind": kind, field: _typed()} | ({other: beside} if other else {})
    client = api(here, key_file)
    known = next((each for each in client.get("/secrets")["items"] if each["name"] == name), None)
    if known is None:
        stored = client.post("/secrets", {"name": name, "value": value, "allowed_hosts": allow})
    else:
        if allow and set(allow) != set(known["allowed_hosts"]):
            raise Refused(
                f"Secret {name} is bound to {', '.join(known['allowed_hosts']) or 'no host'}: delete it first."
            )
        stored = client.post(f"/secrets/{known['id']}/rotate", {"value": value})
    if as_json:
        here.tell(stored)
    else:
        here.say(f"{stored['id']}  {name} {'stored' if known is None else 'rotated'}")


def _typed() -> str:
    if sys.stdin.isatty():
        import getpass

        return getpass.getpass("value: ")
    value = sys.stdin.read().removesuffix("\n")
    if not value:
        raise Refused("Give the value on standard input.")
    return value


@app.command(name="list")
def list_(*, key_file: KeyFile = None, as_json: Json = False, here: Asked) -> None:
    """List what is stored, without the values."""
    from deploy.operator.reach import api

    items = api(here, key_file).get("/secrets")["items"]
    here.show(
        items,
        ("ID", "NAME", "KIND", "HOSTS", "LAST USED"),
        lambda each: (
            each["id"],
            each["name"],
            each["kind"],
            ", ".join(each["allowed_hosts"]),
            (each["last_used"] or "")[:19],
        ),
        as_json=as_json,
    )


@app.command
def delete(
    secret: Annotated[str, Parameter(help="The secret's id.")], *, key_file: KeyFile = None, here: Asked
) -> None:
    """Shred a secret: nothing that was sealed with it can be opened again."""
    from deploy.operator.reach import api

    api(here, key_file).delete(f"/secrets/{secret}")
    here.say(f"{secret} deleted")
