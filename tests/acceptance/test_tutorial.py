"""The tutorial can be followed to the letter."""

import json
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from deploy.stack import running_stack
from deploy.testing.installation import installation
from tests.acceptance.test_demo import PROGRAM, Site, until

PAGE = (Path(__file__).parents[2] / "docs/tutorial.md").read_text()
BLOCKS = re.findall(r"^```sh\n(.*?)^```", PAGE, re.DOTALL | re.MULTILINE)
OPEN = """
for look in $(seq 200); do
  test "$(curl -s -o /dev/null -w '%{http_code}' -X DELETE "$HOOK")" = 405 && break; sleep 0.05
done
"""


@pytest.fixture(scope="module")
def site() -> Iterator[Site]:
    if shutil.which("curl") is None:
        pytest.skip("there is no curl here")
    with installation(smtp_port="0") as installed:
        installed.start()
        until(lambda: running_stack(installed.data) is not None, "the stack says that it is ready")
        yield Site(installed)


def block(beginning: str) -> str:
    """The one block of the page that begins so."""
    [found] = [each for each in BLOCKS if each.startswith(beginning)]
    return found


def followed(site: Site, folder: Path, script: str) -> str:
    """What a shell prints that is given these lines, at the addresses of this installation."""
    for there, here in (
        ("http://127.0.0.1:8401", site.installed.gateway),
        ("data/secrets/first-api-key", str(site.installed.data / "secrets/first-api-key")),
        (".venv/bin/automateos", PROGRAM),
    ):
        script = script.replace(there, here)
    done = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", script],
        cwd=folder,
        env=site.installed.environ,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_the_tutorial_leads_from_a_webhook_to_a_verified_run(site: Site, tmp_path: Path) -> None:
    start, environment, draw, publish, send, look, replay, *_ = BLOCKS
    assert start == "make up\n"
    told = followed(site, tmp_path, environment + draw + publish + OPEN + send + send)
    assert "hello.json: valid, 3 nodes and 2 edges" in told
    first, second = (json.loads(line) for line in re.findall(r'\{"run":[^}]*\}', told))
    assert (first["deduplicated"], second["deduplicated"]) == (False, True)
    run = first["run"]
    assert second["run"] == run
    until(lambda: f"{run}  completed" in site.shell("runs", "list").stdout, "the run is projected")
    shown = followed(site, tmp_path, (look + replay).replace("<run>", run))
    assert '{"text":"Hello Ada!"}' in shown
    assert f"run {run} replays" in shown
    assert f"{run}  whole: " in shown


def test_the_tutorial_leads_to_a_run_that_waits_for_a_signal_and_goes_on_with_it(
    site: Site, tmp_path: Path
) -> None:
    environment, ask, say = BLOCKS[1], block("cat > ask.json"), block(".venv/bin/automateos runs signal")
    told = followed(site, tmp_path, environment + ask + say)
    waiting, _, heard = told.partition("waits for signal approved, at step ask until ")
    assert "status    waiting" in waiting
    [run] = re.findall(r"^(\S+)  approved was said$", heard, re.MULTILINE)
    until(lambda: f"{run}  completed" in site.shell("runs", "list").stdout, "the run has heard it")
    assert '{"text":"Ada said yes."}' in site.shell("runs", "show", run).stdout
    again = site.shell("runs", "signal", run, "approved", "--key", "first")
    assert (again.returncode, "(run.ended 409)" in again.stderr) == (1, True)


def test_the_tutorial_leads_through_a_list(site: Site, tmp_path: Path) -> None:
    told = followed(site, tmp_path, BLOCKS[1] + block("cat > each.json"))
    [run] = re.findall(r"run +([0-9a-f-]{36})\n", told)
    until(lambda: f"{run}  completed" in site.shell("runs", "list").stdout, "every item is done")
    assert '["1. Hello Ada!","2. Hello Alan!","3. Hello Grace!"]' in site.shell("runs", "show", run).stdout


def test_a_mistake_is_told_with_its_place_as_the_page_says(site: Site, tmp_path: Path) -> None:
    draw = block("cat > hello.json")
    done = subprocess.run(
        [
            "bash",
            "-c",
            draw.replace("steps.greeting", "steps.greting").replace(".venv/bin/automateos", PROGRAM),
        ],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 1
    assert "hello.json/nodes/2/config/value: workflow.bad_expression" in done.stdout
