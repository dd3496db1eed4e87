"""The samples of docs/events.md run as they stand there, and a program outside can do nothing else."""

import asyncio
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import nats
import pytest

from deploy.stack import Running, running_stack
from deploy.testing.installation import Installation, installation
from tests.acceptance.test_demo import Site, until

PAGE = (Path(__file__).parents[2] / "docs/events.md").read_text()
ORG = "org_default"


def sample(name: str) -> str:
    [code] = re.findall(rf"<!-- sample: {name} -->\n```python\n(.*?)```", PAGE, re.DOTALL)
    return str(code)


@pytest.fixture(scope="module")
def site() -> Iterator[Site]:
    with installation(smtp_port="0") as installed:
        installed.start()
        until(lambda: running_stack(installed.data) is not None, "the stack says that it is ready")
        yield Site(installed)


def facts(installed: Installation) -> Running:
    running = running_stack(installed.data)
    assert running is not None
    return running


def seed_of(installed: Installation) -> str:
    return str(installed.data / f"secrets/nats/outside_{ORG}.seed")


@pytest.mark.parametrize("name", ["pull", "listen"])
def test_the_samples_of_the_page_hear_of_a_run(site: Site, tmp_path: Path, name: str) -> None:
    program, heard = tmp_path / "sample.py", tmp_path / "heard"
    program.write_text(sample(name))
    environ = {
        "PATH": os.environ["PATH"],
        "NATS_URL": facts(site.installed).servers.nats_url,
        "NATS_SEED_FILE": seed_of(site.installed),
    }
    with heard.open("wb") as output:
        running = subprocess.Popen([sys.executable, "-I", str(program)], env=environ, stdout=output)
    try:
        made = site.demos_until(lambda: "run.completed" in heard.read_text())
    finally:
        running.terminate()
        running.wait(30)
    assert any(run in heard.read_text() for run in made)


async def test_a_program_outside_can_neither_write_nor_read_anything_else(site: Site) -> None:
    refused: list[str] = []

    async def complained(error: Exception) -> None:
        refused.append(str(error))

    client = await nats.connect(
        facts(site.installed).servers.nats_url,
        nkeys_seed=seed_of(site.installed),
        allow_reconnect=False,
        error_cb=complained,
    )
    try:
        for subject in (f"run.{ORG}.x", "inbox.0.bundle", f"evt.{ORG}.key.x", "$JS.API.STREAM.PURGE.RUNS"):
            await client.publish(subject, b"{}")
        for subject in (f"run.{ORG}.*", "evt.>", "live.evt.>", "live.run.org_other.*"):
            await client.subscribe(subject)
        await client.flush()
        async with asyncio.timeout(60):
            while len(refused) < 8:
                await asyncio.sleep(0.01)
        assert all("permissions violation" in reason.lower() for reason in refused)
    finally:
        await client.close()
