"""Restarts a service when its code changes: for whoever develops it."""

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Final

from deploy.supervisor import Say, Supervisor

_UNDER_ALL: Final = ("contracts", "chassis")


async def restart_what_changes(supervisor: Supervisor, root: Path, services: Sequence[str], say: Say) -> None:
    """Watch the packages until cancelled."""
    from watchfiles import PythonFilter, awatch

    say(f"watching {root}: a changed service is started again")
    folders = [root / name for name in (*services, *_UNDER_ALL) if (root / name).is_dir()]
    async for changes in awatch(*folders, watch_filter=PythonFilter()):
        paths = sorted(Path(path).relative_to(root) for _, path in changes)
        await supervisor.restart(concerned(paths, services), why=f"{paths[0]} changed")


def concerned(paths: Iterable[Path], services: Sequence[str]) -> list[str]:
    """The services that run code from one of these files."""
    packages = {path.parts[0] for path in paths}
    return [name for name in services if name in packages or packages & set(_UNDER_ALL)]
