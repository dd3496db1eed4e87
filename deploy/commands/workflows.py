"""`automateos workflows`: judge a workflow file with the compiler that would run it; nothing needs to be running."""

from pathlib import Path
from typing import Annotated

from cyclopts import App, Parameter

from deploy.commands.here import Asked, Json

app = App(name="workflows", help="Workflows as files.")


@app.command
def validate(
    file: Annotated[
        Path, Parameter(help="A workflow as JSON; `-` reads standard input.", allow_leading_hyphen=True)
    ],
    *,
    as_json: Json = False,
    here: Asked,
) -> int:
    """Compile a workflow and tell every fault at once, with its place. Exit code 1 when there is one."""
    import sys

    from executor.registry import registry
    from orchestrator.compiler import compile_workflow

    body = sys.stdin.buffer.read() if str(file) == "-" else file.read_bytes()
    specs = {spec.type: spec for spec in registry().announced}
    outcome = compile_workflow(body, specs, org="org_default", workflow="wf", version=1)
    faults = outcome if isinstance(outcome, list) else []
    if as_json:
        here.tell({"valid": not faults, "faults": faults})
    elif not isinstance(outcome, list):
        here.say(f"{file}: valid, {len(outcome.nodes)} nodes and {len(outcome.edges)} edges")
    for fault in [] if as_json else faults:
        where = f" (character {fault.position})" if fault.position is not None else ""
        here.say(f"{file}{fault.pointer}: {fault.code}{where}: {fault.message}")
    return 1 if faults else 0
