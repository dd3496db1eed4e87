"""Makes contracts/worker_pb2.py and its types from contracts/worker.proto, as they are committed.

`python -m deploy.worker_stubs` writes both; a test fails when what is committed is stale. Needs the packages for developers.
"""

import sys
import tempfile
from pathlib import Path
from typing import Final

PROTO: Final = "contracts/worker.proto"
MADE: Final = ("contracts/worker_pb2.py", "contracts/worker_pb2.pyi")
_ROOT: Final = Path(__file__).resolve().parents[1]


def made() -> dict[str, str]:
    """File name → text."""
    from grpc_tools import protoc

    with tempfile.TemporaryDirectory() as folder:
        arguments = [
            "protoc",
            f"-I{_ROOT}",
            f"--python_out={folder}",
            f"--pyi_out={folder}",
            str(_ROOT / PROTO),
        ]
        if protoc.main(arguments) != 0:
            raise SystemExit(f"{PROTO} cannot be read")
        return {name: (Path(folder) / name).read_text(encoding="utf-8") for name in MADE}


def main() -> None:
    root = Path(sys.argv[1]) if len(sys.argv) > 1 else _ROOT
    for name, text in made().items():
        (root / name).write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
