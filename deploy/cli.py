"""`automateos`: the command line. A command is found by its name here and imported when it is called.

Whatever goes wrong that a person can mend is one line on standard error, and exit code 1.
"""

import asyncio
import inspect
import os
import sys
from collections.abc import Sequence
from typing import Any, Final

from cyclopts import App, CycloptsError

from chassis.ports import Away
from chassis.settings import InvalidSettings
from contracts.reference import VERSION
from deploy.commands.here import Here
from deploy.refusals import Refused

app = App(
    name="automateos",
    help="Workflow automation in which every fact about a run is an event that you can replay.",
    version=VERSION,
)

_COMMANDS: Final = (
    ("up", "up:up", "Start everything on this machine; Ctrl-C stops it."),
    ("dev", "up:dev", "Like up; a service whose code changes is started again."),
    ("demo", "demo:demo", "Send a signed webhook three times and watch the one run it causes."),
    ("doctor", "doctor:doctor", "Look whether this machine and the stack on it are well."),
    ("runs", "runs:app", "List runs, read their histories, replay and verify them."),
    ("approvals", "approvals:app", "What runs ask people, and deciding it."),
    ("replay", "replay:replay", "Decide the installation's own past again with this release."),
    ("verify", "verify:verify", "Find what was changed, removed, put in or moved since it was stored."),
    ("events", "events:app", "What programs outside may subscribe to."),
    ("workflows", "workflows:app", "Judge a workflow file with the compiler that would run it."),
    ("test", "cases:check", "Run a workflow's test cases, for people and for CI."),
    ("cases", "cases:app", "Test cases: list, record and remove them."),
    ("triggers", "triggers:app", "What starts runs: deliveries, trying it out, past deliveries run again."),
    ("nodes", "nodes:app", "Node types, and importing those of an API from its OpenAPI document."),
    ("secrets", "secrets:app", "Sealed secrets: what goes in is never shown again."),
    ("keys", "keys:app", "API keys."),
    ("pools", "pools:app", "Pools of executors, and of workers outside."),
    ("executor", "executor:executor", "Run one more executor beside the stack that runs here."),
    ("pauses", "pauses:app", "What is paused and held; pausing a workflow, a pool, an org."),
    ("gates", "gates:app", "Limits of workflows: who is inside, and who waits."),
    ("dead-letters", "dead_letters:app", "Messages that no code could handle."),
    ("projections", "projections:app", "Make the read models anew from the log."),
    ("init", "init:app", "The one-shot steps of compose.yaml."),
)
for _place_in_help, (_name, _place, _help) in enumerate(_COMMANDS):
    # Help stands here, so that telling it imports no command.
    app.command(f"deploy.commands.{_place}", name=_name, help=_help, sort_key=_place_in_help)

_MENDABLE: Final = (Refused, InvalidSettings, Away, CycloptsError, OSError)
_INTERRUPTED: Final = 130
_NO_READER: Final = 141


def main(arguments: Sequence[str] | None = None) -> int:
    """The entry point of the package."""
    here = Here(environ=os.environ, say=_say)  # noqa: TID251  # The composition root of every command.
    return run(sys.argv[1:] if arguments is None else arguments, here)


def _say(line: str) -> None:
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


def run(arguments: Sequence[str], here: Here) -> int:
    """Run one command; its exit code."""
    try:
        return _called(arguments, here)
    except KeyboardInterrupt:
        return _INTERRUPTED
    except BrokenPipeError:
        # Nobody reads any more, as after `| head`. What is still to be flushed goes nowhere.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return _NO_READER
    except Exception as error:
        reason = _mendable(error)
        if reason is None:
            raise
        sys.stderr.write(f"automateos: {_one_line(reason)}\n")
        return 1


def _called(arguments: Sequence[str], here: Here) -> int:
    command, bound, ignored = app.parse_args(list(arguments), exit_on_error=False, print_error=False)
    given = {name: here for name, kind in ignored.items() if kind is Here}
    result: Any = command(*bound.args, **bound.kwargs, **given)
    if inspect.iscoroutine(result):
        result = asyncio.run(result)
    return result if isinstance(result, int) else 0


def _mendable(error: BaseException) -> BaseException | None:
    """What a person can mend, also when it comes out of a group of tasks; none: it is a defect of ours."""
    if isinstance(error, _MENDABLE):
        return error
    if isinstance(error, BaseExceptionGroup):
        return next((found for inner in error.exceptions if (found := _mendable(inner))), None)
    return None


def _one_line(error: BaseException) -> str:
    return " ".join(str(error).split()) or type(error).__name__


if __name__ == "__main__":
    sys.exit(main())
