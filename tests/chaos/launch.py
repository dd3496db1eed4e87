"""Starts one service of a stack under chaos: by way of the proxies, and armed to die at a named place when asked to.

The stack runs `launch.py <service>` in place of `python -m <service>`; this changes the environment and becomes that very
process. Standard library only: it stands in the way of every start.
"""

import json
import os
import sys
from pathlib import Path


def told(folder: Path, name: str, environ: dict[str, str]) -> dict[str, str]:
    """What the service shall be told instead of the truth."""
    real = {key: environ[key] for key in REAL if environ.get(key)}
    draft = folder / f"real-{name}.new"
    draft.write_text(json.dumps(real))
    draft.rename(folder / f"real-{name}.json")
    links = folder / "links.json"
    more: dict[str, str] = json.loads(links.read_text()).get(name, {}) if links.exists() else {}
    library = folder / "libfaketime"
    if library.exists():
        more |= {
            "LD_PRELOAD": library.read_text(),
            "FAKETIME_TIMESTAMP_FILE": str(folder / f"clock-{name}"),
            "FAKETIME_CACHE_DURATION": "1",
            "FAKETIME_DONT_FAKE_MONOTONIC": "1",
            "DONT_FAKE_MONOTONIC": "1",
        }
    try:
        # Taken away first: the next start is a healthy one.
        (folder / f"crash-{name}").rename(folder / f"crashing-{name}")
        more["AUTOMATEOS_CRASH"] = (folder / f"crashing-{name}").read_text()
        draft = folder / f"armed-{name}.new"
        draft.write_text(str(os.getpid()))
        draft.rename(folder / f"armed-{name}")
    except FileNotFoundError:
        pass  # Nobody asked for it.
    return more


REAL = ("AUTOMATEOS_NATS_URL", "AUTOMATEOS_POSTGRES_HOST", "AUTOMATEOS_POSTGRES_PORT", "AUTOMATEOS_REDIS_URL")

if __name__ == "__main__":
    service = sys.argv[1]
    environment = dict(os.environ)
    environment |= told(Path(environment.pop("CHAOS_FOLDER")), service, environment)
    os.execve(sys.executable, [sys.executable, "-P", "-m", service], environment)
