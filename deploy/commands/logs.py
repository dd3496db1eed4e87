"""`automateos runs logs`: what the nodes of a run said."""

import time
from collections.abc import Iterator, Mapping
from typing import Annotated, Any, Final

from cyclopts import Parameter

from contracts.logs import LogLevel
from deploy.commands.here import Asked, Json, KeyFile, Run, plain

_LOOK_SECONDS: Final = 1.0
_SETTLED_SECONDS: Final = 2.0
"""So long after a run's end its last lines may come: an executor stores them beside the work, not before it."""


def logs(  # noqa: PLR0913  # Filters of a list.
    run: Run,
    *,
    step: Annotated[str | None, Parameter(help="The lines of this step only.")] = None,
    attempt: Annotated[int | None, Parameter(help="The lines of these attempts only.")] = None,
    level: Annotated[LogLevel | None, Parameter(help="Lines of this level at least.")] = None,
    contains: Annotated[str | None, Parameter(help="Lines that hold this in their text or a field.")] = None,
    follow: Annotated[bool, Parameter(negative="", help="Go on until the run ends.")] = False,
    key_file: KeyFile = None,
    as_json: Json = False,
    here: Asked,
) -> None:
    """Print what the nodes of a run said. Secrets are blanked out; lines are kept for 7 days."""
    from deploy.operator.reach import api

    client = api(here, key_file)
    wanted = {"step": step, "attempt": attempt, "level": level, "contains": contains}
    pages = Pages(client, run, wanted)
    ended, expired = not follow, ""
    while True:
        for page in pages.new():
            if pages.expired != expired and not as_json:
                expired = pages.expired
                here.say(f"(what was said before {expired[:19]} is kept no longer)")
            for line in page:
                if as_json:
                    here.tell(line)
                else:
                    here.say(shown(line))
        if ended:
            return
        ended = client.get(f"/runs/{run}")["ended"] is not None
        time.sleep(_SETTLED_SECONDS if ended else _LOOK_SECONDS)


class Pages:
    """The pages of a run's lines, each line once."""

    def __init__(self, client: Any, run: str, wanted: Mapping[str, Any]) -> None:
        self._client, self._run, self._wanted = client, run, wanted
        self._last: str | None = None
        self.expired = ""
        """Before when lines of the run are gone."""

    def new(self) -> Iterator[list[dict[str, Any]]]:
        """What came since the last look."""
        more = True
        while more:
            page = self._client.get(f"/runs/{self._run}/logs", cursor=self._last, limit=200, **self._wanted)
            more = page["next"] is not None
            if page["items"]:
                self._last = page["items"][-1]["id"]
            self._last = page["next"] or self._last
            self.expired = page["expired_before"] or self.expired
            yield page["items"]


def shown(line: Mapping[str, Any]) -> str:
    """One line of a terminal, whatever the node said."""
    fields = "".join(f"  {name}={value}" for name, value in line["fields"].items())
    text = plain(f"{line['text']}{fields}").strip()
    missing = line["missing"]
    cut = ""
    if missing is not None and missing["why"] == "line":
        cut = f"  (cut: {missing['chars']} characters, {missing['fields']} fields)"
    return f"{line['time'][11:23]}  {line['step']}#{line['attempt']}  {line['level']:<7}  {text}{cut}"
