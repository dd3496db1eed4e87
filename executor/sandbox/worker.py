"""The process in which code runs: reads jobs from its input and writes what comes of them, until its input ends.

It is started without a variable, a file or a socket of the executor's, and gives up the rest before the first job.
"""

import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO, Final

import msgspec
from msgspec import Raw, Struct
from wasmtime import Engine

from contracts.limits import CODE_MEMORY_MIB_DEFAULT, CODE_SECONDS, MIB
from executor.sandbox.cpython import CPython
from executor.sandbox.guest import Guest, Voice, engine, stopped
from executor.sandbox.lockdown import lock_down, yield_to_others
from executor.sandbox.messages import Ending, Job, Ready, Said, framed
from executor.sandbox.meter import Meter
from executor.sandbox.quickjs import QuickJS

_FIRST: Final[dict[str, str]] = {
    "python": "import socket, uuid\nuuid.uuid1()\nsocket.getaddrinfo('localhost', 1)",
    "javascript": "console.log(new Date(), Math.random())",
}
"""Makes the engine open and map what it needs, before nothing can be opened any more."""


def main(language: str, file: str) -> None:
    yield_to_others()
    sink = sys.stdout.buffer
    runtime = engine()
    guest = guest_of(language, runtime, Path(file))
    meter = Meter(runtime)
    ending(guest, meter, first_job(language), lambda _: None)
    sink.write(framed(Ready(landlock=lock_down())))
    sink.flush()
    serve(guest, meter, sys.stdin.buffer, sink)


def first_job(language: str) -> Job:
    return Job(
        source=_FIRST[language],
        input=Raw(b"null"),
        seed="",
        now=0.0,
        key="",
        processor_s=CODE_SECONDS,
        memory_bytes=CODE_MEMORY_MIB_DEFAULT * MIB,
    )


def guest_of(language: str, runtime: Engine, file: Path) -> Guest:
    return CPython(runtime, file) if language == "python" else QuickJS(runtime, file)


def serve(guest: Guest, meter: Meter, source: BinaryIO, sink: BinaryIO) -> None:
    decode = msgspec.json.Decoder(Job).decode

    def tell(message: Struct) -> None:
        sink.write(framed(message))
        sink.flush()

    while length := source.read(4):
        job = decode(source.read(int.from_bytes(length, "big")))
        voice = Voice(tell)
        ended = ending(guest, meter, job, voice.say)
        voice.end()
        tell(ended)


def ending(guest: Guest, meter: Meter, job: Job, say: Callable[[Said], None]) -> Ending:
    """Run one job, whatever it does."""
    meter.begin(job.processor_s)
    try:
        return guest.run(job, say)
    except Exception as error:
        # Anything: what a guest does to its own memory must not end us with an error that looks like ours.
        return stopped(error)
    finally:
        meter.end()


if __name__ == "__main__":
    main(*sys.argv[1:])
    os._exit(0)  # The meter's thread need not be waited for.
