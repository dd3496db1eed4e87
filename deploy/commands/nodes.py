"""`automateos nodes`: which node types there are, and importing those of an API from its OpenAPI document."""

import re
from pathlib import Path
from typing import Annotated, Any, Final
from urllib.parse import urlsplit

from cyclopts import App, Parameter

from contracts.limits import OPENAPI_BYTES
from deploy.commands.here import Asked, Here, Json, KeyFile
from deploy.refusals import Refused

app = App(name="nodes", help="Node types, and importing those of an API.")

_ADDRESS: Final = re.compile(r"https?://", re.IGNORECASE)
_WORDS: Final = re.compile(r"[^a-z0-9]+")
Name = Annotated[str, Parameter(help="What the org calls the API.")]


@app.command(name="import")
def import_(  # noqa: PLR0913  # Each is an option of the command line.
    source: Annotated[
        str,
        Parameter(
            help="An OpenAPI document (3.0 or 3.1, JSON or YAML): a file, `-`, or a URL.",
            allow_leading_hyphen=True,
        ),
    ],
    *,
    name: Annotated[str, Parameter(help="The node types are `api.<name>.<operation>`.")] = "",
    server: Annotated[str, Parameter(help="Where it is called, in place of the document's servers.")] = "",
    secret: Annotated[str, Parameter(help="Id of the secret to fetch the document with.")] = "",
    key_file: KeyFile = None,
    as_json: Json = False,
    here: Asked,
) -> None:
    """Make node types of an API's operations; a second time makes a new version and tells the difference."""
    from deploy.operator.reach import api

    by_url = _ADDRESS.match(source) is not None
    wanted: dict[str, Any] = {"url": source} if by_url else {"document": _text(source)}
    wanted["name"] = name or _named(source, by_url=by_url)
    wanted |= {key: value for key, value in (("server", server), ("secret", secret)) if value}
    told = api(here, key_file).post("/apis", wanted)
    if as_json:
        here.tell(told)
    else:
        _tell(told, here)


def _text(source: str) -> str:
    import sys

    data = sys.stdin.buffer.read(OPENAPI_BYTES + 1) if source == "-" else Path(source).read_bytes()
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError:
        raise Refused(f"{source} is no text in UTF-8.") from None


def _named(source: str, *, by_url: bool) -> str:
    """A word for the API: the file's name, or the host's."""
    said = (urlsplit(source).hostname or "") if by_url else Path(source).stem
    word = _WORDS.sub("_", said.lower()).strip("_")[:32].strip("_")
    if not word or not word[0].isalpha():
        raise Refused("Give the API a name with --name: a letter, then letters, digits and _.")
    return word


def _tell(told: dict[str, Any], here: Here) -> None:
    changes = told["changes"]
    differences = [
        f"{len(changes[kind])} {kind}" for kind in ("added", "changed", "removed") if changes[kind]
    ]
    here.say(
        f"{told['name']} version {told['version']}: {len(told['operations'])} node types"
        f" ({', '.join(differences) or 'nothing new'})"
    )
    for sign, kind in (("+", "added"), ("~", "changed"), ("-", "removed")):
        for each in changes[kind]:
            here.say(f"  {sign} {each}")
    for each in told["skipped"]:
        here.say(f"  skipped {each['pointer']}: {each['reason']}")


@app.command(name="list")
def list_(*, key_file: KeyFile = None, as_json: Json = False, here: Asked) -> None:
    """List every node type that workflows can use."""
    from deploy.operator.reach import api

    items = api(here, key_file).get("/node-types")["items"]
    here.show(
        items,
        ("TYPE", "VERSION", "CATEGORY", "TITLE"),
        lambda each: (each["type"], str(each.get("version", 1)), each["category"], each["title"]),
        as_json=as_json,
    )


@app.command
def apis(*, key_file: KeyFile = None, as_json: Json = False, here: Asked) -> None:
    """List the APIs that were imported."""
    from deploy.operator.reach import api

    items = api(here, key_file).get("/apis")["items"]
    here.show(
        items,
        ("NAME", "VERSION", "NODE TYPES", "TITLE"),
        lambda each: (each["name"], str(each["version"]), str(each["operations"]), each["title"]),
        as_json=as_json,
    )


@app.command
def remove(name: Name, *, key_file: KeyFile = None, here: Asked) -> None:
    """Offer an API's node types no more; what was published with them goes on."""
    from deploy.operator.reach import api

    api(here, key_file).delete(f"/apis/{name}")
    here.say(f"{name} removed")
