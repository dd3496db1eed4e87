"""Postgres: its cluster, its lock files, its socket (its user and its places: postgres_home.py)."""

import asyncio
import os
import shutil
import signal
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from deploy import process
from deploy.data_directory import DataDirectory
from deploy.process import Command
from deploy.refusals import Refused
from deploy.servers.postgres_home import OUTSIDE, identity_for, postgres_binaries, reachable, settle
from deploy.servers.sockets import socket_folder
from deploy.supervisor import Child, Say

PORT: Final = 5432
"""Only a part of the socket's name: Postgres does not listen on TCP."""
DATABASE: Final = "automateos"
SUPERUSER: Final = "postgres"
_READY_LINE: Final = 7
_INITDB_SECONDS: Final = 120.0


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
