"""Writes what is made of the cases: `python -m tests.conformance`.

Always: the index in docs/conformance.md and the JSON Schema of the format in docs/reference. With `fill` and names of files:
what the engine does today, into these cases. Then read it: a case is a claim about what is right. With `tidy`: every file
in the one way in which it is written.
"""

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path

from tests.conformance.case import files, schema
from tests.conformance.index import PAGE, page
from tests.conformance.written import filled, whole

SCHEMA = PAGE.parent / "reference" / "conformance.schema.json"


def schema_text() -> str:
    return json.dumps(schema(), indent=1, ensure_ascii=False) + "\n"


def main(arguments: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.conformance", description=__doc__)
    parser.add_argument("verb", nargs="?", choices=["index", "fill", "tidy"], default="index")
    parser.add_argument("files", nargs="*", type=Path)
    options = parser.parse_args(arguments)
    for path in options.files if options.verb == "fill" else ():
        path.write_text(whole(filled(json.loads(path.read_text()))))
    for path in files() if options.verb == "tidy" else ():
        path.write_text(whole(json.loads(path.read_text())))
    SCHEMA.write_text(schema_text())
    PAGE.write_text(page())
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
