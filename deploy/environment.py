"""Writes what an operator reads about settings: `.env.example` and docs/reference/settings.md, from chassis/settings.py.

`python -m deploy.environment` writes both; a test fails when what is committed is stale. The docstring under a field is
its explanation, the comment above a group of fields is the group's title.
"""

import ast
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any, Final, Literal, get_args, get_origin, get_type_hints

from msgspec import Meta, Struct

from chassis import settings
from chassis.settings import PREFIX, Settings, environment_of

ENVIRONMENT_FILE: Final = ".env.example"
REFERENCE_FILE: Final = "docs/reference/settings.md"
_COMMAND: Final = "python -m deploy.environment"


class Setting(Struct, frozen=True, kw_only=True):
    """One variable, as the operator meets it."""

    group: str
    variable: str
    default: str
    takes: str
    help: str


def described() -> list[Setting]:
    """Every setting in the order of the source."""
    source = Path(settings.__file__).read_text(encoding="utf-8")
    hints = get_type_hints(Settings, include_extras=True)
    defaults = environment_of(Settings())
    return [
        Setting(
            group=group,
            variable=PREFIX + name.upper(),
            default=defaults[PREFIX + name.upper()],
            takes=_takes(hints[name]),
            help=help_text,
        )
        for group, name, help_text in _fields(source)
    ]


def _fields(source: str) -> Iterator[tuple[str, str, str]]:
    """Group, name and docstring of every field of `Settings`."""
    lines = source.splitlines()
    [body] = [
        node.body
        for node in ast.parse(source).body
        if isinstance(node, ast.ClassDef) and node.name == Settings.__name__
    ]
    group = ""
    for place, node in enumerate(body):
        if not isinstance(node, ast.AnnAssign) or not isinstance(node.target, ast.Name):
            continue
        above = lines[node.lineno - 2].strip()
        group = above.removeprefix("# ") if above.startswith("# ") else group
        yield group, node.target.id, _docstring(body[place + 1 : place + 2])


def _docstring(following: list[ast.stmt]) -> str:
    for node in following:
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant):
            return " ".join(str(node.value.value).split())
    return ""


def _takes(hint: Any) -> str:
    """What values a variable takes, in words."""
    if get_origin(hint) is Annotated:
        kind, *extras = get_args(hint)
        bounds = [_bounds(extra) for extra in extras if isinstance(extra, Meta)]
        return " ".join([_takes(kind), *filter(None, bounds)])
    if get_origin(hint) is Literal:
        return ", ".join(f"`{choice}`" for choice in get_args(hint))
    if get_args(hint):
        return " or ".join(_takes(part) for part in get_args(hint))
    return {int: "whole number", float: "number", bool: "`true` or `false`", str: "text"}[hint]


def _bounds(meta: Meta) -> str:
    match meta.ge, meta.le:
        case None, None:
            return ""
        case least, None:
            return f"from {least}"
        case None, most:
            return f"up to {most}"
        case least, most:
            return f"{least} to {most}"


def environment_text() -> str:
    """A file for `cp .env.example .env`: every variable with its default, as a comment."""
    parts = [
        f"# Every setting of AutomateOS with its default. Written by `{_COMMAND}` from chassis/settings.py.",
        "# Copy it to .env and remove the # before a line to change it. docker compose reads .env by itself;",
        "# for `make up` say: set -a; . ./.env; set +a",
    ]
    group = ""
    for each in described():
        if each.group != group:
            group = each.group
            parts += ["", f"# --- {group} ---"]
        if each.help:
            parts.append(f"# {each.help}")
        parts.append(f"#{each.variable}={each.default}")
    return "\n".join(parts) + "\n"


def reference_text() -> str:
    """The page of docs/."""
    parts = [
        "# Settings",
        "",
        f"Written by `{_COMMAND}` from `chassis/settings.py`.",
        "",
        "Every service reads its settings once, at its start, from environment variables. A variable that begins with",
        f"`{PREFIX}` and is not in these tables is refused by name, and so is a value that does not fit.",
        "The embedded stack (`make up`) fills in the addresses, users and key files of its servers itself; with",
        "`compose.yaml` they are set there.",
    ]
    group = ""
    for each in described():
        if each.group != group:
            group = each.group
            parts += ["", f"## {group}", "", "| variable | default | takes | |", "|---|---|---|---|"]
        default = f"`{each.default}`" if each.default else "empty"
        parts.append(f"| `{each.variable}` | {default} | {each.takes} | {each.help.replace('|', '/')} |")
    return "\n".join(parts) + "\n"


def documents() -> dict[str, str]:
    """File → text, as committed."""
    return {ENVIRONMENT_FILE: environment_text(), REFERENCE_FILE: reference_text()}


def main() -> None:
    root = Path(sys.argv[1] if len(sys.argv) > 1 else ".")
    for name, text in documents().items():
        (root / name).write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
