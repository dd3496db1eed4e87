"""The process in which evaluations are made that may have to be killed: `python -m chassis.expressions.apart`.

It says that it is ready, then reads jobs from its input and writes replies to its output, each as JSON after its length in
four bytes, one after the other, until its input ends. It bounds its own memory, and its processor time in case whoever would kill it is gone.
"""

import resource
import sys
from pathlib import Path
from typing import BinaryIO, Final

import msgspec
from msgspec import Raw, Struct

from chassis.expressions.faults import Failed, OutOfMemory
from chassis.expressions.jobs import Answer, Done, Job, Undone
from chassis.expressions.language import Language
from chassis.expressions.program import Program
from contracts.limits import MIB

MEMORY: Final = 256 * MIB
"""What an evaluation may take, on top of what the process takes anyway."""
_PROGRAMS: Final = 64
_SECONDS: Final = 5
_PAGE: Final = resource.getpagesize()
READY: Final = b"\0\0\0\0"


class Reply(Struct, frozen=True, kw_only=True):
    """An answer; `spent` when the process ends after it."""

    answer: Answer
    spent: bool = False


def answered(job: Job, language: Language) -> Answer:
    """Evaluate a job, whatever it costs. Raises `OutOfMemory`."""
    program = language.program(job.source)
    if not isinstance(program, Program):
        return Undone(message=program[0].message, offset=program[0].offset)
    try:
        return Done(value=Raw(msgspec.json.encode(program.answer(job.values))))
    except OutOfMemory:
        raise
    except MemoryError as error:
        raise OutOfMemory("the result takes more memory than it may") from error
    except Failed as failed:
        return Undone(message=failed.message, offset=failed.offset)


def framed(body: bytes) -> bytes:
    return len(body).to_bytes(4, "big") + body


def serve(source: BinaryIO, sink: BinaryIO, language: Language) -> None:
    """Answer until the input ends, or memory did."""
    decode = msgspec.json.Decoder(Job).decode
    spent = False
    sink.write(READY)
    sink.flush()
    while not spent and (length := source.read(4)):
        job = decode(source.read(int.from_bytes(length, "big")))
        _bound_time()
        try:
            reply = Reply(answer=answered(job, language))
        except OutOfMemory as error:
            spent = True
            reply = Reply(answer=Undone(message=error.message), spent=True)
        sink.write(framed(msgspec.json.encode(reply)))
        sink.flush()


def _bound_memory() -> None:
    statm = Path("/proc/self/statm")
    used = int(statm.read_text().split()[0]) * _PAGE if statm.exists() else 512 * MIB
    resource.setrlimit(resource.RLIMIT_AS, (used + MEMORY, used + MEMORY))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


def _bound_time() -> None:
    usage = resource.getrusage(resource.RUSAGE_SELF)
    used = int(usage.ru_utime + usage.ru_stime)
    _, hard = resource.getrlimit(resource.RLIMIT_CPU)
    resource.setrlimit(resource.RLIMIT_CPU, (used + _SECONDS, hard))


if __name__ == "__main__":
    warmed = Language(kept=_PROGRAMS).warm()
    _bound_memory()  # What the engine itself needs is no expression's.
    serve(sys.stdin.buffer, sys.stdout.buffer, warmed)
