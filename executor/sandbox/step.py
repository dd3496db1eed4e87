"""A step that is code: from its configuration to what came of it."""

import hashlib
from typing import Annotated, Final, TypeAlias

import msgspec
from msgspec import Meta, Raw

from contracts.codec import depth_exceeds
from contracts.limits import (
    CODE_CHARS,
    CODE_MEMORY_MIB,
    CODE_RESULT_BYTES,
    CODE_SECONDS,
    JSON_DEPTH,
    MIB,
)
from executor.errors import StepError
from executor.node import Context, Result
from executor.sandbox.messages import Failed, Job, Language, Spoken, Unsaid

Source: TypeAlias = Annotated[
    str,
    Meta(
        title="Code",
        max_length=CODE_CHARS,
        extra_json_schema={"x-expression": "none", "x-widget": "code"},
    ),
]
Input: TypeAlias = Annotated[
    Raw, Meta(title="Input", description="What the code sees as `input`, as {{ steps.fetch.output.body }}.")
]
Seconds: TypeAlias = Annotated[
    float,
    Meta(
        title="Processor time",
        description="In seconds; waiting for others does not count.",
        ge=0.1,
        le=CODE_SECONDS,
    ),
]
Mebibytes: TypeAlias = Annotated[int, Meta(title="Memory", description="In MiB.", ge=64, le=CODE_MEMORY_MIB)]

_WORDS: Final = {
    "processor": "The code took more than its {seconds:g} s of processor time.",
    "memory": "The code took more than its {mebibytes} MiB of memory.",
    "depth": "The code calls itself, or nests its values, too deeply.",
    "result": f"What the code returned is larger than {CODE_RESULT_BYTES // MIB} MiB.",
    "forbidden": "The code did what a sandbox has no room for: {told}.",
}


class CodeFailed(StepError):
    """The code raised an error."""

    code = "code.failed"


class OverLimit(StepError):
    """The code took more than it may."""

    code = "code.limit"


async def run_code(
    language: Language, source: str, given: Raw, limits: tuple[float, int], context: Context
) -> Result:
    """Make one attempt. `limits`: seconds of processor time, and MiB of memory.

    What the code can see is a function of the attempt, its clock and its chance too: the same attempt computes the same.
    """
    task = context.task
    attempt = f"{task.org}/{task.run}/{task.step}/{task.attempt}/{task.key}"
    job = Job(
        source=source,
        input=given,
        seed=hashlib.sha256(attempt.encode()).hexdigest(),
        now=task.scheduled_at,
        key=task.key,
        processor_s=limits[0],
        memory_bytes=limits[1] * MIB,
    )

    def say(said: Spoken) -> None:
        if isinstance(said, Unsaid):
            context.unsaid(said.lines, said.chars)
            return
        context.log(said.text, said.level, **({"line": said.line} if said.line else {}))

    ending = await context.sandbox.run(language, job, say, context.log)
    if isinstance(ending, Failed):
        raise _error(ending, limits)
    return Result(output=_checked(ending.value))


def _checked(value: str) -> Raw:
    body = value.encode("utf-8", "replace")
    try:
        deep = depth_exceeds(body, JSON_DEPTH)
        if not deep:
            msgspec.json.decode(body)
    except (msgspec.MsgspecError, RecursionError) as error:
        raise CodeFailed(f"What the code returned is not JSON: {error}", field="/code") from error
    if deep:
        raise CodeFailed(f"What the code returned is nested deeper than {JSON_DEPTH}.", field="/code")
    return Raw(body)


def _error(failed: Failed, limits: tuple[float, int]) -> StepError:
    line = f"Line {failed.line}: " if failed.line else ""
    if failed.kind in ("code", "asked"):
        return CodeFailed(line + failed.message, field="/code", retryable=failed.retry)
    words = _WORDS[failed.kind].format(seconds=limits[0], mebibytes=limits[1], told=failed.message)
    return OverLimit(line + words, field="/code")
