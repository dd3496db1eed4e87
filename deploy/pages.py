"""Writes the tables of docs/ that stand in the code: limits, how a run and a step change their status, functions.

`python -m deploy.pages` renews what stands between the marks `<!-- name: begin -->` and `<!-- name: end -->`; a test fails
when what is committed is stale.
"""

import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, Final, get_args

from chassis.expressions import FUNCTIONS
from contracts import limits
from contracts.runs import TERMINAL, RunStatus, StepStatus
from orchestrator.state import RUN_STATUSES, STEP_STATUSES

_DAY: Final = 24 * 3600
_UNITS: Final = frozenset({"KIB", "MIB"})


def with_table(page: str, name: str, table: str) -> str:
    """The page with this between the marks of this name."""
    begin, end = f"<!-- {name}: begin -->", f"<!-- {name}: end -->"
    before, found, rest = page.partition(begin)
    old, closed, after = rest.partition(end)
    del old
    if not (found and closed):
        raise ValueError(f"The page has no marks {begin} … {end}.")
    return f"{before}{begin}\n\n{table.strip()}\n\n{end}{after}"


def limits_table() -> str:
    """Every bound of contracts/limits.py in its group."""
    parts: list[str] = []
    group = ""
    for title, name, value in _limits():
        if title != group:
            group = title
            parts += ["", f"**{group}**", "", "| bound | value |", "|---|---|"]
        parts.append(f"| `{name}` | {in_words(name, value)} |")
    return "\n".join(parts)


def _limits() -> Iterator[tuple[str, str, float]]:
    """Group, name and value in the order of the source."""
    group = ""
    for line in Path(limits.__file__).read_text(encoding="utf-8").splitlines():
        if line.startswith("# ---"):
            group = line.strip("# -")
        name, is_final, _ = line.partition(": Final")
        if is_final and name not in _UNITS:
            yield group, name, getattr(limits, name)


def in_words(name: str, value: float) -> str:
    """A bound with the unit that its name says."""
    if "_BYTES" in name:
        return _size(int(value))
    if "_SECONDS" in name:
        return _duration(value)
    if name.startswith("DISK_"):
        return f"{value:.0%}".replace("%", " %")
    return f"{value:,}"


def _size(value: int) -> str:
    for unit, size in (("MiB", limits.MIB), ("KiB", limits.KIB)):
        if value >= size and value % size == 0:
            return f"{value // size:,} {unit}"
    return f"{value:,} bytes"


def _duration(value: float) -> str:
    if value < 1:
        return f"{value * 1000:g} ms"
    for unit, size in (("days", _DAY), ("h", 3600), ("min", 60)):
        if value >= size and value % size == 0:
            return f"{value / size:,.0f} {unit if value != size else unit.removesuffix('s')}"
    return f"{value:g} s"


def run_states_table() -> str:
    return _transitions(
        "run", RUN_STATUSES, ("queued", "running", "stopping", "compensating", *sorted(TERMINAL))
    )


def step_states_table() -> str:
    return _transitions("step", STEP_STATUSES, get_args(StepStatus))


def _transitions(noun: str, table: Mapping[type, Mapping[Any, Any]], statuses: tuple[str, ...]) -> str:
    """A picture of the transitions, and the same as a table: event by status before."""
    parts = ["```mermaid", "stateDiagram-v2", f"  [*] --> {statuses[0]}"]
    arrows: dict[tuple[str, str], list[str]] = {}
    for event, changes in table.items():
        for before, after in changes.items():
            arrows.setdefault((before, after), []).append(_tag(event))
    parts += [f"  {before} --> {after}: {', '.join(tags)}" for (before, after), tags in arrows.items()]
    befores = [status for status in statuses if any(status in changes for changes in table.values())]
    parts += [
        "```",
        "",
        f"| event, when the {noun} is | {' | '.join(befores)} |",
        "|---" * (len(befores) + 1) + "|",
    ]
    for event, changes in table.items():
        cells = (changes.get(before, "") for before in befores)
        parts.append(f"| `{_tag(event)}` | {' | '.join(cells)} |")
    return "\n".join(parts)


def _tag(event: Any) -> str:
    return str(event.__struct_config__.tag)


def statuses_table() -> str:
    """The closed lists of statuses that the API shows."""
    return "\n".join(
        [
            f"- run: {', '.join(f'`{name}`' for name in get_args(RunStatus))}",
            f"- step: {', '.join(f'`{name}`' for name in get_args(StepStatus))}",
        ]
    )


def functions_table() -> str:
    """Every function of expressions in its group, with an example and what it gives."""
    parts: list[str] = []
    for group in dict.fromkeys(row.group for row in FUNCTIONS):
        parts += [
            "",
            f"### {group[0].upper()}{group[1:]}",
            "",
            "| written | does | example | gives |",
            "|---|---|---|---|",
        ]
        for row in FUNCTIONS:
            if row.group == group:
                cells = (_code(row.usage), row.text.replace("|", "\\|"), _code(row.example), _code(row.gives))
                parts.append(f"| {' | '.join(cells)} |")
    return "\n".join(parts)


def _code(text: str) -> str:
    return f"`{text}`".replace("|", "\\|")


PAGES: Final[Mapping[str, Mapping[str, Callable[[], str]]]] = {
    "docs/expressions.md": {"functions": functions_table},
    "docs/operations.md": {"limits": limits_table},
    "docs/run-states.md": {
        "statuses": statuses_table,
        "run": run_states_table,
        "step": step_states_table,
    },
}
"""Page → the tables in it."""


def renewed(name: str, page: str) -> str:
    for table, text in PAGES[name].items():
        page = with_table(page, table, text())
    return page


def main() -> None:
    root = Path(sys.argv[1] if len(sys.argv) > 1 else ".")
    for name in PAGES:
        page = root / name
        page.write_text(renewed(name, page.read_text(encoding="utf-8")), encoding="utf-8")


if __name__ == "__main__":
    main()
