"""What is installed from the built wheel does what the checkout does, in a place that knows no checkout."""

import os
import subprocess
import sys
import sysconfig
import venv
from pathlib import Path

import pytest

CHECKOUT = Path(__file__).parents[2]
SECONDS = 120


@pytest.fixture(scope="module")
def command(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """`automateos` of a virtual environment in which only the wheel is; what it depends on is lent by ours."""
    folder = tmp_path_factory.mktemp("elsewhere")
    subprocess.run(
        [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(folder / "dist")],
        cwd=CHECKOUT,
        check=True,
        capture_output=True,
        timeout=SECONDS,
    )
    [wheel] = (folder / "dist").glob("*.whl")
    venv.create(folder / "venv", with_pip=True)
    python = folder / "venv/bin/python"
    subprocess.run(
        [python, "-m", "pip", "install", "--no-index", "--no-deps", "--quiet", str(wheel)],
        check=True,
        timeout=SECONDS,
    )
    [packages] = (folder / "venv/lib").glob("python3*/site-packages")
    (packages / "lent.pth").write_text(sysconfig.get_paths()["purelib"])
    return folder / "venv/bin/automateos"


def called(command: Path, folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    environ = {
        "PATH": os.environ["PATH"],
        "HOME": str(folder),
        "AUTOMATEOS_DATA_DIR": str(folder / "data"),
    }  # The path to programs, for the stack.
    return subprocess.run(
        [command, *arguments],
        cwd=folder,
        env=environ,
        capture_output=True,
        text=True,
        timeout=SECONDS,
        check=False,
    )


def test_the_demo_runs_from_the_wheel_where_no_checkout_is(command: Path, tmp_path: Path) -> None:
    where = subprocess.run(
        [command.parent / "python", "-c", "import deploy; print(deploy.__file__)"],
        cwd=tmp_path,
        env={"PATH": os.environ["PATH"]},
        capture_output=True,
        text=True,
        check=True,
        timeout=SECONDS,
    )
    assert Path(where.stdout.strip()).is_relative_to(command.parents[1])
    done = called(command, tmp_path, "demo")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "One delivery, one run:" in done.stdout
    assert done.stdout.count('"deduplicated":true') == 2
    assert str(CHECKOUT) not in done.stdout
