"""What the command line promises: help without weight, one clear line for every failure, JSON for programs."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from deploy.cli import app, run
from deploy.commands.here import Here, table

CHECKOUT = Path(__file__).parents[2]
COMMANDS = [
    "up",
    "dev",
    "demo",
    "doctor",
    "runs list",
    "runs show",
    "runs events",
    "runs logs",
    "runs replay",
    "runs signal",
    "runs tail",
    "runs verify",
    "events tail",
    "workflows validate",
    "test",
    "cases list",
    "cases record",
    "cases remove",
    "secrets put",
    "secrets list",
    "secrets delete",
    "keys issue",
    "keys list",
    "keys revoke",
    "pools list",
    "pools show",
    "pools pause",
    "pools resume",
    "pools drain",
    "pools token",
    "executor",
    "dead-letters list",
    "dead-letters redrive",
    "projections rebuild",
    "projections repair",
    "triggers list",
    "triggers deliveries",
    "triggers test",
    "triggers run-again",
    "init keys",
    "init stores",
]


class Terminal:
    """Calls commands as a person would, in a data directory where nothing runs."""

    def __init__(self, folder: Path) -> None:
        self.lines: list[str] = []
        self.environ = {"AUTOMATEOS_DATA_DIR": str(folder / "data")}

    def __call__(self, *arguments: str, **settings: str) -> int:
        return run(arguments, Here(environ=self.environ | settings, say=self.lines.append))


@pytest.fixture
def terminal(tmp_path: Path) -> Terminal:
    return Terminal(tmp_path)


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_tells_what_it_does(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    command_help = [*command.split(), "--help"]
    app(command_help, exit_on_error=False, result_action="return_value")
    assert f"Usage: automateos {command}" in capsys.readouterr().out


def test_help_imports_no_service_and_no_client_of_a_server() -> None:
    heavy = "nats asyncpg redis litestar sqlalchemy cryptography gateway orchestrator executor projections"
    program = (
        "import sys\n"
        "from deploy.cli import main\n"
        "main(['--help'])\n"
        f"sys.exit(','.join(name for name in '{heavy}'.split() if name in sys.modules) or 0)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, cwd=CHECKOUT, check=False, timeout=60
    )
    assert done.returncode == 0, f"imported: {done.stderr}"


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["nonsense"], 'Unknown command "nonsense"'),
        (["runs", "nonsense"], 'Unknown command "nonsense"'),
        (["runs", "show"], "requires an argument"),
        (["runs", "list", "--nonsense"], "Unknown option: --nonsense"),
        (["runs", "replay", "r", "--at", "x"], 'unable to convert "x" into int'),
        (["runs", "list"], "No stack is ready in"),
        (["runs", "events", "r"], "No stack is ready in"),
        (["runs", "signal", "r"], "requires an argument"),
        (["runs", "signal", "r", "paid", "--body", "{"], "The body is no JSON"),
        (["runs", "signal", "r", "paid", "--key", "é"], "A key is 1 to 255 printable ASCII characters"),
        (["runs", "signal", "r", "paid"], "No stack is ready in"),
        (["runs", "verify"], "Name the runs to verify"),
        (["events", "tail"], "No stack is ready in"),
        (["keys", "issue", "robot"], "Name the key's scopes"),
        (["secrets", "put", "x", "--kind", "basic"], "A secret of kind basic needs its user"),
        (["secrets", "put", "x", "--kind", "nonsense"], "Invalid value"),
        (["workflows", "validate", "/nonexistent/workflow.json"], "No such file"),
        (["dead-letters", "list"], "No stack is ready in"),
        (["pools", "list"], "No stack is ready in"),
        (["pools", "drain", "default"], "Name one executor, or the --labels"),
        (["pools", "drain", "default", "e-1", "--labels", "zone=a"], "Name one executor, or the --labels"),
        (["executor", "--pool", "gpu"], "No stack is ready in"),
        (["executor"], "requires an argument"),
        (["triggers", "list"], "No stack is ready in"),
        (["triggers", "test", "t", "--body", "{"], "The sample is not JSON"),
        (["triggers", "run-again", "t", "--name", "n", "--since", "x", "--until", "y"], "into datetime"),
        (["projections", "rebuild"], "There is no data directory"),
        (["projections", "repair", "RUNS"], "There is no data directory"),
    ],
)
def test_a_failure_is_one_line_and_exit_code_one(
    terminal: Terminal, capsys: pytest.CaptureFixture[str], arguments: list[str], words: str
) -> None:
    assert terminal(*arguments) == 1
    said = capsys.readouterr().err
    assert said.startswith("automateos: ")
    assert said.count("\n") == 1
    assert words in said


def test_a_setting_that_is_none_is_named(terminal: Terminal, capsys: pytest.CaptureFixture[str]) -> None:
    assert terminal("runs", "list", AUTOMATEOS_NONSENSE="1") == 1
    assert "AUTOMATEOS_NONSENSE is not a setting." in capsys.readouterr().err


def test_up_refuses_a_bad_setting_in_one_line(terminal: Terminal, capsys: pytest.CaptureFixture[str]) -> None:
    assert terminal("up", AUTOMATEOS_REPLICAS="many") == 1
    said = capsys.readouterr().out
    assert said.count("\n") == 1
    assert "AUTOMATEOS_REPLICAS" in said


def test_the_sample_workflow_is_valid(terminal: Terminal) -> None:
    assert terminal("workflows", "validate", str(CHECKOUT / "templates/github-push/workflow.json")) == 0
    assert terminal.lines[-1].endswith("valid, 6 nodes and 6 edges")


def test_a_workflow_with_faults_has_each_told_with_its_place(terminal: Terminal, tmp_path: Path) -> None:
    file = tmp_path / "workflow.json"
    file.write_text(
        '{"nodes": [{"id": "a", "type": "nonsense"}, {"id": "b", "type": "if", "config": {"condition": "trigger.("}}]}'
    )
    assert terminal("workflows", "validate", str(file)) == 1
    assert any("/nodes/0/type: workflow.unknown_node_type" in line for line in terminal.lines)
    assert any("/nodes/1/config/condition: workflow.bad_expression" in line for line in terminal.lines)


def test_faults_are_told_to_programs_as_json(terminal: Terminal, tmp_path: Path) -> None:
    file = tmp_path / "workflow.json"
    file.write_text('{"nodes": []}')
    assert terminal("workflows", "validate", str(file), "--json") == 1
    [line] = terminal.lines
    told = json.loads(line)
    assert told["valid"] is False
    assert told["faults"][0]["code"] == "workflow.no_nodes"


def test_a_file_may_come_on_standard_input() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "deploy.cli", "workflows", "validate", "-"],
        input=(CHECKOUT / "templates/github-push/workflow.json").read_bytes(),
        stdout=subprocess.PIPE,
        cwd=CHECKOUT,
        check=False,
        timeout=60,
    )
    assert (done.returncode, done.stdout) == (0, b"-: valid, 6 nodes and 6 edges\n")


def test_the_doctor_looks_at_the_machine_when_no_stack_runs(terminal: Terminal) -> None:
    assert terminal("doctor") in {0, 1}  # The disk of this machine may be nearly full.
    assert terminal.lines[0].startswith("ok    Python 3.")
    folder = terminal.environ["AUTOMATEOS_DATA_DIR"]
    assert terminal.lines[-1] == f"note  no stack has run in {folder} yet: `automateos up` starts one"


def test_a_command_ends_when_nobody_reads_what_it_says() -> None:
    reader, writer = os.pipe()
    os.close(reader)
    done = subprocess.run(
        [sys.executable, "-m", "deploy.cli", "workflows", "validate", "templates/github-push/workflow.json"],
        stdout=writer,
        stderr=subprocess.PIPE,
        cwd=CHECKOUT,
        check=False,
        timeout=60,
    )
    os.close(writer)
    assert (done.returncode, done.stderr) == (141, b"")


def test_what_somebody_stored_cannot_move_the_cursor_of_whoever_lists_it() -> None:
    head, row = table([("a\x1b[2J", "b\nc")], ("ONE", "TWO"))
    assert head == "ONE    TWO"
    assert row == "a [2J  b c"
