"""Makes .venv from the locked requirements: `python3 environment.py run` to use the project, `dev` to work on it.

Runs with whatever Python 3 the machine has, before anything is installed. uv installs when it can be had (2 s instead of
30), else pip does, from the same file: every package is checked against its hash. Our own package comes in a second
command, because no hash can be known for it.
"""

import subprocess
import sys
import tempfile
from pathlib import Path

OLDEST = (3, 11)
ROOT = Path(__file__).resolve().parents[2]
VENV = ROOT / ".venv"
PYTHON = VENV / "bin" / "python"
UV = VENV / "bin" / "uv"
PIP_INSTALL = (PYTHON, "-m", "pip", "install", "--quiet", "--disable-pip-version-check")


class Refused(Exception):
    """What the machine lacks, and the line that mends it."""


def main(kind: str) -> int:
    try:
        refuse_what_cannot_work()
        make_venv()
        install(ROOT / "requirements" / f"{kind}.txt")
        compile_own(kind)
    except Refused as refused:
        say(str(refused))
        return 1
    except subprocess.CalledProcessError as error:
        say(f"This command failed: {' '.join(error.cmd)}")
        return 1
    for stamp in {"run", kind}:
        (VENV / f".{stamp}").touch()
    return 0


def refuse_what_cannot_work() -> None:
    this = f"{sys.version_info[0]}.{sys.version_info[1]}"
    if sys.version_info < OLDEST:
        raise Refused(
            f"Python {OLDEST[0]}.{OLDEST[1]} or newer is needed, this is {this}: apt install python3, or name another one "
            "with `make PYTHON=/path/to/python3 up`."
        )
    try:
        import ensurepip  # noqa: F401  # Debian ships it apart.
        import venv  # noqa: F401  # Whether it is there at all.
    except ImportError:
        raise Refused(f"Python's venv is missing: apt install python{this}-venv") from None


def make_venv() -> None:
    """A virtual environment that works is kept; one whose Python has gone is made anew."""
    if not (PYTHON.exists() and runs(PYTHON, "-c", "import pip")):
        say(f"making .venv with {sys.executable}")
        run(sys.executable, "-m", "venv", "--clear", VENV)


def install(requirements: Path) -> None:
    say(f"installing requirements/{requirements.name}")
    if has_uv():
        uv = (UV, "pip", "install", "--python", PYTHON, "--quiet", "--compile-bytecode")
        # What builds our own package is locked too, by the lock for developers.
        builders = ("--build-constraint", ROOT / "requirements" / "dev.txt")
        if runs(*uv, "--require-hashes", "-r", requirements) and runs(
            *uv, *builders, "--no-deps", "--editable", ROOT
        ):
            return
        say("uv could not do it; pip installs the same file")
    run(*PIP_INSTALL, "--require-hashes", "-r", requirements)
    run(*PIP_INSTALL, "--no-deps", "--editable", ROOT)


def compile_own(kind: str) -> None:
    """What we run ourselves is compiled once, and what does not compile is told by whoever imports it.

    Five services that start at one moment would each do it, and at every start where Python may not keep what it compiled
    (PYTHONDONTWRITEBYTECODE).
    """
    packages = [found.parent for found in ROOT.glob("*/__init__.py")]
    runs(PYTHON, "-m", "compileall", "-q", "-j", "0", *packages, *([ROOT / "tests"] if kind == "dev" else []))


def has_uv() -> bool:
    """Uv in the version, and with the hashes, that the lock names."""
    if runs(UV, "--version"):
        return True
    with tempfile.NamedTemporaryFile("w", suffix=".txt") as locked:
        locked.write(locked_lines("uv", (ROOT / "requirements" / "dev.txt").read_text()))
        locked.flush()
        return runs(*PIP_INSTALL, "--require-hashes", "-r", locked.name)


def locked_lines(name: str, requirements: str) -> str:
    """The lines of one package in a requirements file."""
    lines = []
    inside = False
    for line in requirements.splitlines():
        if not line.startswith((" ", "#")):
            inside = line.startswith(f"{name}==")
        if inside:
            lines.append(line)
    return "\n".join(lines) + "\n"


def runs(*command: object) -> bool:
    """Whether the command succeeds; what it says on the way is shown only when it is needed."""
    try:
        done = subprocess.run([str(part) for part in command], capture_output=True, text=True, check=False)
    except OSError:
        return False
    return done.returncode == 0


def run(*command: object) -> None:
    subprocess.run([str(part) for part in command], check=True)


def say(line: str) -> None:
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
