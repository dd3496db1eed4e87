"""How a service begins and ends, seen from outside its process."""

import asyncio
import signal
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from chassis.lifecycle import EXIT_CANNOT_START, EXIT_CUT_OFF, companions

PROGRAM = """
import asyncio, sys
from chassis.lifecycle import CannotStart, companions, run_service

async def main(settings, stopping):
    print("up", flush=True)
{body}

sys.exit(run_service("demo", main))
"""


@contextmanager
def service(body: str, **environ: str) -> Iterator["subprocess.Popen[str]"]:
    program = PROGRAM.format(body=textwrap.indent(textwrap.dedent(body), "    "))
    command = [sys.executable, "-c", program]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    process = subprocess.Popen(command, text=True, env={"PATH": "", **environ}, **pipes)  # type: ignore[call-overload]  # Two of its many options.
    try:
        yield process
    finally:
        process.kill()
        process.wait()
        for pipe in (process.stdout, process.stderr):
            pipe.close()


def up(process: "subprocess.Popen[str]") -> None:
    assert process.stdout is not None
    assert process.stdout.readline() == "up\n"


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_lets_the_service_finish_what_it_holds(number: signal.Signals) -> None:
    with service("await stopping.wait(); await asyncio.sleep(0.05); print('done', flush=True)") as process:
        up(process)
        process.send_signal(number)
        out, _ = process.communicate(timeout=20)
        assert "done" in out
        assert process.returncode == 0


def test_a_drain_that_takes_too_long_is_cut_off() -> None:
    with service("await asyncio.Event().wait()", AUTOMATEOS_DRAIN_SECONDS="0.05") as process:
        up(process)
        process.send_signal(signal.SIGTERM)
        out, _ = process.communicate(timeout=20)
        assert process.returncode == EXIT_CUT_OFF
        assert "service.cut-off" in out


def test_a_second_signal_cuts_the_drain_off_at_once() -> None:
    body = "await stopping.wait(); print('asked', flush=True); await asyncio.Event().wait()"
    with service(body, AUTOMATEOS_DRAIN_SECONDS="600") as process:
        up(process)
        process.send_signal(signal.SIGTERM)
        assert process.stdout is not None
        while "asked" not in process.stdout.readline():
            pass
        process.send_signal(signal.SIGTERM)
        process.communicate(timeout=20)
        assert process.returncode == EXIT_CUT_OFF


@pytest.mark.parametrize(
    ("environ", "says"),
    [
        ({"AUTOMATEOS_GATEWAY_PORT": "many"}, "AUTOMATEOS_GATEWAY_PORT"),
        ({"AUTOMATEOS_GATEWAY_PROT": "8401"}, "AUTOMATEOS_GATEWAY_PROT is not a setting."),
    ],
)
def test_a_bad_setting_is_told_in_one_line(environ: dict[str, str], says: str) -> None:
    with service("", **environ) as process:
        out, err = process.communicate(timeout=20)
        assert (out, process.returncode) == ("", EXIT_CANNOT_START)
        assert err.count("\n") == 1
        assert says in err


def test_a_reason_not_to_start_is_told_in_one_line_however_deep_it_was_raised() -> None:
    body = """
    async with companions(), asyncio.TaskGroup() as group:
        async def open(): raise CannotStart("the data directory is damaged")
        group.create_task(open())
        await asyncio.Event().wait()
    """
    with service(body) as process:
        _, err = process.communicate(timeout=20)
        assert (err, process.returncode) == (
            "automateos demo: the data directory is damaged\n",
            EXIT_CANNOT_START,
        )


def test_an_exception_ends_the_process_with_a_line_in_the_log() -> None:
    body = """
    async with companions() as group:
        async def work(): raise KeyError("defect")
        group.create_task(work())
        await asyncio.Event().wait()
    """
    with service(body) as process:
        out, _ = process.communicate(timeout=20)
        assert process.returncode == 1
        assert '"why":"KeyError: \'defect\'"' in out
        assert '"event":"service.failed"' in out


async def test_companions_end_with_the_block() -> None:
    ended = asyncio.Event()

    async def loop() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            ended.set()

    async with companions() as group:
        group.create_task(loop())
        await asyncio.sleep(0)
    assert ended.is_set()


async def test_a_companion_that_fails_ends_the_block() -> None:
    async def fail() -> None:
        raise ValueError("broken")

    with pytest.raises(ExceptionGroup) as raised:
        async with companions() as group:
            group.create_task(fail())
            await asyncio.Event().wait()
    assert raised.group_contains(ValueError, match="broken")
