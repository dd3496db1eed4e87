"""The page that lists every case: docs/conformance.md, between its marks."""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Final, get_args

from tests.conformance.case import Case, Topic, files, read

PAGE: Final = Path(__file__).parents[2] / "docs" / "conformance.md"
_MARKED: Final = re.compile(r"(<!-- cases: begin -->\n).*?(<!-- cases: end -->)", re.DOTALL)


def index(cases: Mapping[str, Case]) -> str:
    """One table per topic: what is so, why, and the file."""
    parts = list[str]()
    for topic in get_args(Topic):
        rows = [
            f"| [{case.title}](../tests/conformance/{name}) | {case.why}{_mark(case)} |"
            for name, case in cases.items()
            if case.topic == topic
        ]
        if rows:
            parts.append(
                "\n".join([f"### {topic.capitalize()}", "", "| what is so | why |", "|---|---|", *rows])
            )
    return "\n\n".join([f"{len(cases)} cases.", *parts])


def _mark(case: Case) -> str:
    return " ●" if case.installation else ""


def page() -> str:
    """The page as it has to be."""
    cases = {path.name: read(path) for path in files()}
    return _MARKED.sub(lambda marks: f"{marks[1]}\n{index(cases)}\n\n{marks[2]}", PAGE.read_text())
