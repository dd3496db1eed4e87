"""Restarts a service when its code changes: for whoever develops it."""

import asyncio
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Final

from deploy.supervisor import Say, Supervisor

if TYPE_CHECKING:
    from watchfiles import Change

_UNDER_ALL: Final = ("contracts", "chassis")
_OUR_OWN: Final = "deploy"
_LOOK_MILLISECONDS: Final = 1_000


async def restart_what_changes(
    supervisor: Supervisor, root: Path, services: Sequence[str], say: Say, *, since: float
) -> None:
    """Watch the packages until cancelled. `since`: what was saved after this moment the services may not know yet."""
    from watchfiles import PythonFilter, awatch

    is_code = PythonFilter()

    def is_ours(change: "Change", path: str) -> bool:
        # Not by the whole path: the checkout may lie in a folder whose name the filter ignores.
        return is_code(change, str(Path(path).relative_to(root)))

    folders = [root / name for name in (*services, *_UNDER_ALL, _OUR_OWN) if (root / name).is_dir()]
    is_first = True
    async for changes in awatch(
        *folders, watch_filter=is_ours, yield_on_timeout=True, rust_timeout=_LOOK_MILLISECONDS
    ):
        paths = {Path(path).relative_to(root) for _, path in changes}
        if is_first:
            is_first = False
            paths |= {path.relative_to(root) for path in _saved_after(since, folders)}
            say(f"watching {root}: a changed service is started again")
        await _restart(supervisor, sorted(paths), services, say)


async def _restart(supervisor: Supervisor, paths: Sequence[Path], services: Sequence[str], say: Say) -> None:
    own = [path for path in paths if path.parts[0] == _OUR_OWN]
    if own:
        say(f"{own[0]} changed: what supervises the services is new after Ctrl-C and another start")
    async with asyncio.TaskGroup() as group:
        for name, path in concerned(paths, services).items():
            group.create_task(supervisor.restart([name], why=f"{path} changed"))


def concerned(paths: Iterable[Path], services: Sequence[str]) -> Mapping[str, Path]:
    """The services that run code from one of these files, and from which."""
    found: dict[str, Path] = {}
    for path in paths:
        package = path.parts[0]
        for name in services if package in _UNDER_ALL else {package} & set(services):
            found.setdefault(name, path)
    return found


def _saved_after(moment: float, folders: Iterable[Path]) -> list[Path]:
    found = []
    for folder in folders:
        for path in folder.rglob("*.py"):
            try:
                if path.stat().st_mtime > moment:
                    found.append(path)
            except FileNotFoundError:
                continue  # An editor's draft, gone since it was listed.
    return found
