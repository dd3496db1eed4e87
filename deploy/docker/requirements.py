"""What the image needs of the lock, with its hashes: `python requirements.py image` or `builder`, to standard output.

The locks also hold test tools and embedded servers, which no image needs. So this takes the packages that pyproject.toml
names (or the two that build the wheel), and theirs, as the lock's `# via` lines tell. Runs before anything is installed.
"""

import re
import sys
import tomllib
from collections.abc import Iterable, Mapping
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
BUILDERS = ("hatchling", "uv")


def main(kind: str) -> int:
    lock, wanted = ("dev.txt", BUILDERS) if kind == "builder" else ("run.txt", dependencies())
    blocks = blocks_of((ROOT / "requirements" / lock).read_text(encoding="utf-8"))
    sys.stdout.write("".join(blocks[name] for name in closure(wanted, blocks)))
    return 0


def dependencies() -> tuple[str, ...]:
    """The packages that pyproject.toml names, without those of its extras."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    return tuple(name_of(line) for line in project["dependencies"])


def blocks_of(lock: str) -> dict[str, str]:
    """The lines of each package, by its name."""
    blocks: dict[str, str] = {}
    name = ""
    for line in lock.splitlines(keepends=True):
        if not line.startswith((" ", "#")):
            name = name_of(line)
        if name:
            blocks[name] = blocks.get(name, "") + line
    return blocks


def name_of(requirement: str) -> str:
    found = re.match(r"[A-Za-z0-9._-]+", requirement)
    return re.sub(r"[-_.]+", "-", found[0]).lower() if found else ""


def closure(wanted: Iterable[str], blocks: Mapping[str, str]) -> list[str]:
    """These packages and all that they stand on."""
    needed_by = {
        name: set(re.findall(r"^    #(?: via)?\s+([a-z0-9-]+)", block, re.MULTILINE))
        for name, block in blocks.items()
    }
    found = set(wanted)
    missing = found - blocks.keys()
    if missing:
        raise SystemExit(f"The lock lacks {', '.join(sorted(missing))}: run `make lock`.")
    while more := {name for name, parents in needed_by.items() if parents & found} - found:
        found |= more
    return sorted(found)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
