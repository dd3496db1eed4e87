"""`automateos runs logs`: what the nodes of a run said."""

import time
from collections.abc import Iterator
from typing import Annotated, Any, Final

from cyclopts import Parameter

from deploy.commands.here import Asked, Json, KeyFile, Run

_LOOK_SECONDS: Final = 1.0


def logs(
    run: Run,
    *,
    step: Annotated[str | None, Parameter(help="The lines of this step only.")] = None,
    follow: Annotated[bool, Parameter(negative="", help="Go on until the run ends.")] = False,
    key_file: KeyFile = None,
    as_json: Json = False,
    here: Asked,
) -> None:
    """Print what the nodes of a run said. Secrets are blanked out; lines are kept for 7 days."""
    from deploy.operator.reach import api

    client = api(here, key_file)
    last: str | None = None
    while True:
        ended = not follow or client.get(f"/runs/{run}")["ended"] is not None
        for line in _lines(client, run, step, last):
            last = line["id"]
            if as_json:
                here.tell(line)
            else:
                here.say(_shown(line))
        if ended:
            return
        time.sleep(_LOOK_SECONDS)


def _lines(client: Any, run: str, step: str | None, last: str | None) -> Iterator[dict[str, Any]]:
    cursor = last
    while True:
        page = client.get(f"/runs/{run}/logs", step=step, cursor=cursor, limit=200)
        yield from page["items"]
        cursor = page["next"]
        if cursor is None:
            return


def _shown(line: dict[str, Any]) -> str:
    fields = "".join(f"  {name}={value}" for name, value in line["fields"].items())
    text = " ".join(f"{line['text']}{fields}".split())
    return f"{line['time'][11:23]}  {line['step']}#{line['attempt']}  {line['level']:<7}  {text}"
