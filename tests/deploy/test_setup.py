"""What `make` promises on a fresh machine."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from deploy.setup import environment

CHECKOUT = Path(__file__).parents[2]
VERBS = [
    *("help", "setup", "up", "demo", "dev", "test", "lint", "build", "bench"),
    *("soak", "mutants", "chaos", "chaos-cluster", "lock"),
]


def make(*arguments: str, folder: Path = CHECKOUT) -> subprocess.CompletedProcess[str]:
    # As a person would call it: `make test` itself must not count as the caller.
    environ = {name: value for name, value in os.environ.items() if not name.startswith("MAKE")}
    return subprocess.run(
        ["make", *arguments], cwd=folder, env=environ, capture_output=True, text=True, check=False, timeout=60
    )


def test_help_has_one_line_for_each_verb() -> None:
    lines = make("help").stdout.splitlines()
    assert [line.split()[1] for line in lines] == VERBS
    assert all(len(line) <= 80 for line in lines)


@pytest.fixture
def fresh(tmp_path: Path) -> Path:
    """A checkout in which everything has been installed a moment ago."""
    for name in (
        "Makefile",
        "pyproject.toml",
        "requirements/run.txt",
        "requirements/dev.txt",
        "deploy/setup/environment.py",
    ):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(CHECKOUT / name, tmp_path / name)
    (tmp_path / ".venv").mkdir()
    (tmp_path / ".venv/.run").touch()
    return tmp_path


def test_what_is_installed_is_not_installed_again_until_the_lock_changes(fresh: Path) -> None:
    assert make("--question", ".venv/.run", folder=fresh).returncode == 0
    assert make("--question", ".venv/.dev", folder=fresh).returncode == 1
    later = (fresh / ".venv/.run").stat().st_mtime + 1
    os.utime(fresh / "requirements/run.txt", (later, later))
    assert make("--question", ".venv/.run", folder=fresh).returncode == 1


def test_no_python_that_is_new_enough_is_one_line(fresh: Path) -> None:
    (fresh / ".venv/.run").unlink()
    done = make("up", "PYTHON=", folder=fresh)
    assert done.returncode != 0
    assert done.stdout == "Python 3.11 or newer is needed: apt install python3 python3-venv\n"


def test_an_old_python_is_told_so(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(environment, "OLDEST", (9, 9))
    assert environment.main("run") == 1
    assert capsys.readouterr().out.startswith("Python 9.9 or newer is needed, this is 3.")


def test_a_debian_without_venv_is_told_what_to_install(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "ensurepip", None)
    assert environment.main("run") == 1
    minor = sys.version_info.minor
    assert capsys.readouterr().out == f"Python's venv is missing: apt install python3.{minor}-venv\n"


def test_what_we_run_ourselves_is_compiled_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("service", "tests"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "__init__.py").touch()
        (tmp_path / name / "broken.py").write_text("def")
    (tmp_path / "tests" / "__init__.py").rename(tmp_path / "tests" / "helper.py")
    monkeypatch.setattr(environment, "ROOT", tmp_path)
    monkeypatch.setattr(environment, "VENV", tmp_path)
    monkeypatch.setattr(environment, "PYTHON", Path(sys.executable))
    monkeypatch.setattr(environment, "make_venv", lambda: None)
    monkeypatch.setattr(environment, "install", lambda _: None)
    assert environment.main("run") == 0
    assert [path.parts[-3] for path in tmp_path.rglob("*.pyc")] == ["service"]
    assert environment.main("dev") == 0
    assert sorted(path.parts[-3] for path in tmp_path.rglob("*.pyc")) == ["service", "tests"]


def test_uv_is_taken_in_the_version_that_is_locked() -> None:
    lines = environment.locked_lines("uv", (CHECKOUT / "requirements/dev.txt").read_text()).splitlines()
    assert re.fullmatch(r"uv==[0-9.]+ \\", lines[0])
    assert sum("--hash=sha256:" in line for line in lines) > 5
    assert sum("==" in line for line in lines) == 1


@pytest.mark.parametrize("name", ["run", "dev"])
def test_a_lock_names_hashes_and_no_host(name: str) -> None:
    text = (CHECKOUT / f"requirements/{name}.txt").read_text()
    packages = re.findall(r"^[a-z0-9].*$", text, re.MULTILINE)
    assert packages
    assert all(re.fullmatch(r"[a-z0-9._-]+(\[[a-z,]+\])?==\S+( ; .*)? \\", package) for package in packages)
    assert "://" not in text
    assert not re.search(r"^--?", text, re.MULTILINE)
