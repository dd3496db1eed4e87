"""What came of a workflow's cases as JUnit XML, in the form that CI systems read.

One `testsuite` for the workflow, one `testcase` for each case: `failure` where something is not as expected, `error` where the
case could not be run. Source: https://github.com/testmoapp/junitxml.
"""

import re
from collections.abc import Sequence
from typing import Final
from xml.etree import ElementTree as ET

from deploy.operator.testing import Told, difference_lines

_FORBIDDEN: Final = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
_CLASS: Final = "automateos"


def report(workflow: str, told: Sequence[Told]) -> bytes:
    """The whole file."""
    counted = {
        "tests": str(len(told)),
        "failures": str(sum(each.state == "failed" for each in told)),
        "errors": str(sum(each.state == "error" for each in told)),
        "skipped": "0",
        "time": _seconds(sum(each.took_s for each in told)),
    }
    root = ET.Element("testsuites", {"name": _CLASS, **counted})
    suite = ET.SubElement(root, "testsuite", {"name": _text(workflow), **counted})
    for each in told:
        case = ET.SubElement(
            suite,
            "testcase",
            {"classname": _text(workflow), "name": _text(each.case), "time": _seconds(each.took_s)},
        )
        if each.state != "passed":
            _tell(case, each)
    ET.indent(root)
    return bytes(ET.tostring(root, encoding="utf-8", xml_declaration=True)) + b"\n"


def _tell(case: ET.Element, told: Told) -> None:
    lines = [line for each in told.differences for line in difference_lines(each)]
    first = told.message or next(iter(lines), "")
    kind = "failure" if told.state == "failed" else "error"
    element = ET.SubElement(case, kind, {"message": _text(first), "type": told.state})
    element.text = _text(
        "\n".join(filter(None, (told.message, *lines, f"run {told.run}" if told.run else "")))
    )


def _text(text: str) -> str:
    """Text that an XML document can hold: some characters cannot even be escaped there."""
    return _FORBIDDEN.sub("\ufffd", text)


def _seconds(seconds: float) -> str:
    return f"{seconds:.3f}"
