"""The API's document as it is committed.

Written to docs/api/openapi.yaml by `python -m gateway.contract`; a test fails when what is committed is stale.
"""

import sys
from pathlib import Path
from typing import Final

from gateway.app import contract
from gateway.docs import yaml_of
from gateway.release import RELEASE

PLACE: Final = "docs/api/openapi.yaml"


def text() -> str:
    return yaml_of(contract(RELEASE))


if __name__ == "__main__":
    target = Path(sys.argv[1] if len(sys.argv) > 1 else PLACE)
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_text(text(), encoding="utf-8")
