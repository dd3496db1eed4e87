"""An installation of its own for benchmarks and acceptance tests: `automateos up` in a fresh data directory. It is stopped and removed afterwards."""

import asyncio
import json
import os
import secrets
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import asyncpg
from msgspec import Struct

from chassis.clock import SystemClock
from chassis.sealing import MasterKey
from chassis.secret import Secret
from chassis.testing.ports import free_port
from chassis.vault import Vault
from deploy import process, stack
from gateway.permissions import SCOPES

SERVICES: Final = ("ingress", "orchestrator", "executor", "projections", "gateway")
READY_SECONDS: Final = 60.0
COME_AGAIN: Final = frozenset({429, 503})
MOST_REFUSALS: Final = 60
"""Tests share a key, and it may call so often a minute; and whoever was killed is not back yet: whoever is told to come again does."""


class Opened(Struct, frozen=True, kw_only=True):
    """A published workflow and the webhook that starts it."""

    workflow: str
    trigger: str
    url: str


class Installation:
    """A running installation and how to speak to it."""

    def __init__(self, data: Path, environ: dict[str, str], up: Sequence[str] = ()) -> None:
        self.data = data
        self.environ = environ
        self.up_log = data.parent / "up.log"
        self._up = tuple(up) or (str(Path(sys.executable).with_name("automateos")), "up")
        self.ingress = f"http://127.0.0.1:{environ['AUTOMATEOS_INGRESS_PORT']}"
        self.gateway = f"http://127.0.0.1:{environ['AUTOMATEOS_GATEWAY_PORT']}"
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> float:
        """Seconds until every service is ready."""
        began = time.perf_counter()
        with self.up_log.open("ab") as log:
            self._process = subprocess.Popen(
                self._up,
                env=self.environ,
                stdout=log,
                stderr=log,
                preexec_fn=process.dies_with_parent(signal.SIGTERM),  # noqa: PLW1509  # One system call and no lock.
            )
        while time.perf_counter() - began < READY_SECONDS:
            if self._process.poll() is not None:
                raise RuntimeError(self.up_log.read_text()[-2_000:])
            if self._facts.exists() and self.ready():
                return time.perf_counter() - began
            time.sleep(0.02)
        raise RuntimeError(f"not ready in {READY_SECONDS} s: " + self.up_log.read_text()[-2_000:])

    def stop(self) -> None:
        if self._process is not None and self._process.poll() is None:
            self._process.send_signal(
                signal.SIGTERM
            )  # SIGINT is ignored by whoever was started in the background.
            try:
                self._process.wait(60)
            except subprocess.TimeoutExpired:
                self._process.send_signal(signal.SIGTERM)  # The second one ends everything at once.
                self._process.wait(30)
        self._process = None

    def kill(self) -> None:
        """End everything at once, as a crash would: the supervisor takes all others along."""
        if self._process is not None:
            self._process.kill()
            self._process.wait(30)
        self._process = None

    def unready(self, name: str) -> str:
        """Why a service is not ready; empty when it is."""
        port = self.environ[f"AUTOMATEOS_{name.upper()}_PORT"]
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/readyz", timeout=1):
                return ""
        except urllib.error.HTTPError as refused:
            return f"{name}: {refused.read(500).decode(errors='replace')}"
        except OSError as silent:
            return f"{name}: {silent}"

    def ready(self) -> bool:
        return self.are_ready(SERVICES)

    def are_ready(self, names: Sequence[str]) -> bool:
        return not any(self.unready(name) for name in names)

    def command(self, *arguments: str, failing: bool = False) -> str:
        """What a command of the command line prints; raises when it fails, unless it may (by exit code 1)."""
        done = subprocess.run(
            [str(Path(sys.executable).with_name("automateos")), *arguments],
            env=self.environ,
            capture_output=True,
            text=True,
            timeout=300,
            check=False,
        )
        if done.returncode > failing or done.returncode < 0:
            raise RuntimeError(f"{arguments}: {done.stdout[-1_000:]}{done.stderr[-1_000:]}")
        return done.stdout

    # --- The API ------------------------------------------------------------------------------

    @property
    def key(self) -> str:
        [found] = [path for path in (self.data / "secrets").iterdir() if path.name == "first-api-key"]
        return found.read_text().strip().splitlines()[-1]

    def key_of(self, org: str) -> str:
        """A key of another org: nothing makes orgs yet but a key of theirs."""
        return asyncio.run(self._key_of(org))

    async def _key_of(self, org: str) -> str:
        async with asyncpg.create_pool(**self._superuser(), min_size=1, max_size=1) as pool:
            vault = Vault(pool, MasterKey(Secret(b"-" * 32)), SystemClock())  # It seals nothing here.
            issued = await vault.issue_key(org, secrets.token_hex(8), name=org, scopes=sorted(SCOPES))
        return issued.text.reveal_text()

    def call(self, method: str, path: str, body: Any = None, key: str = "") -> Any:
        """One call of the API, with the key of the first start unless another one is given; raises for anything but success."""
        request = urllib.request.Request(  # Loopback.
            f"{self.gateway}/api/v1{path}",
            method=method,
            data=json.dumps(body).encode() if body is not None else None,
            headers={"authorization": f"Bearer {key or self.key}", "content-type": "application/json"},
        )
        for _ in range(MOST_REFUSALS):
            try:
                with urllib.request.urlopen(request, timeout=30) as answer:
                    return json.loads(answer.read() or b"null")
            except urllib.error.HTTPError as error:
                told = f"{method} {path}: {error.code} {error.read().decode()}"
                if error.code not in COME_AGAIN:
                    raise RuntimeError(told) from error
                time.sleep(float(error.headers["retry-after"]))
        raise RuntimeError(told)

    def install(self, name: str, definition: Any, webhook: dict[str, Any]) -> str:
        """Create, publish and open to the world; the webhook's address."""
        return self.open(name, definition, webhook).url

    def open(self, name: str, definition: Any, webhook: dict[str, Any], key: str = "") -> Opened:
        """The same, with the names that both were given. `key`: of the org that they belong to."""
        workflow = self.call("POST", "/workflows", {"name": name, "definition": definition}, key)
        wanted = {"name": name, "workflow": workflow["id"], "webhook": webhook}
        trigger = self.call("POST", "/triggers", wanted, key)
        self.call("POST", f"/workflows/{workflow['id']}/versions/1/publish", key=key)
        url: str = trigger["address"]["url"]
        self._until_open(url)
        return Opened(workflow=workflow["id"], trigger=trigger["id"], url=url)

    def _until_open(self, url: str) -> None:
        """Ingress follows what the gateway wrote within moments."""
        for _ in range(200):
            request = urllib.request.Request(url, method="DELETE")
            try:
                urllib.request.urlopen(request, timeout=5)
            except urllib.error.HTTPError as error:
                if error.code == 405:
                    return
            time.sleep(0.05)
        raise RuntimeError(f"{url} did not open")

    # --- What it costs ------------------------------------------------------------------------

    def pids(self) -> dict[str, int]:
        """The processes of the stack by name."""
        return dict(stack.pids(self.data))

    def cpu(self) -> dict[str, float]:
        """Seconds of CPU each process has used so far (Postgres with its backends)."""
        return {name: _cpu(pid) + sum(map(_cpu, _children(pid))) for name, pid in self.pids().items()}

    def rss(self) -> dict[str, float]:
        """Resident megabytes of each process."""
        return {name: _rss(pid) for name, pid in self.pids().items()}

    @property
    def servers(self) -> dict[str, Any]:
        """Where the servers of the running stack are."""
        found: dict[str, Any] = json.loads(self._facts.read_text())["servers"]
        return found

    @property
    def _facts(self) -> Path:
        """Written when the whole stack is ready, removed when it stops."""
        return self.data / "run" / "stack.json"

    async def postgres(self) -> asyncpg.Connection:
        """A connection as the superuser."""
        return await asyncpg.connect(**self._superuser())

    def _superuser(self) -> dict[str, Any]:
        facts = self.servers["postgres"]
        named = {name: facts[name] for name in ("host", "port", "database", "user")}
        return named | {"password": Path(facts["password_file"]).read_text().strip()}

    async def rows(self, sql: str, *arguments: Any) -> list[Any]:
        """Ask Postgres as its superuser: both ends of every figure are counted."""
        connection = await self.postgres()
        try:
            return list(await connection.fetch(sql, *arguments))
        finally:
            await connection.close()

    def count(self, sql: str, *arguments: Any) -> int:
        return int(asyncio.run(self.rows(sql, *arguments))[0][0])


def _cpu(pid: int) -> float:
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    except OSError:
        return 0.0
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def _children(pid: int) -> list[int]:
    try:
        return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    except OSError:
        return []


def _rss(pid: int) -> float:
    try:
        pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    except OSError:
        return 0.0
    return round(pages * os.sysconf("SC_PAGESIZE") / 1_000_000, 1)


@contextmanager
def installation(
    up: Sequence[str] = (), environ_too: Mapping[str, str] | None = None, **settings: str
) -> Iterator[Installation]:
    """A stack of its own in a temporary data directory; stopped and removed afterwards.

    `up`: what to start in place of `automateos up`, and `environ_too` what else it is told.
    """
    folder = Path(tempfile.mkdtemp(prefix="automateos-trial-"))
    folder.chmod(0o755)
    data = folder / "data"
    environ = {name: value for name, value in os.environ.items() if not name.startswith("AUTOMATEOS_")}
    environ |= {"AUTOMATEOS_DATA_DIR": str(data), "AUTOMATEOS_LOG_LEVEL": "warning"}
    environ |= {f"AUTOMATEOS_{name.upper()}_PORT": str(free_port()) for name in (*SERVICES, "smtp")}
    environ |= {f"AUTOMATEOS_{name.upper()}": value for name, value in settings.items()}
    running = Installation(data, environ | dict(environ_too or {}), up)
    try:
        yield running
    finally:
        running.stop()
        shutil.rmtree(folder, ignore_errors=True)
