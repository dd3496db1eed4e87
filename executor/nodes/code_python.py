"""Runs Python that stands in the workflow, in a sandbox."""

from typing import Annotated, ClassVar

from msgspec import Meta, Raw, Struct, field

from contracts.limits import CODE_MEMORY_MIB_DEFAULT, CODE_SECONDS_DEFAULT
from contracts.nodes import NodeSpec
from executor.forms import form
from executor.node import Context, Result
from executor.sandbox.step import Input, Mebibytes, Seconds, Source, run_code

_HELP = """Runs Python 3.14. The code is the body of a function: what it returns, as JSON, is the output.

It is given `input` (the field below); `need("customer.email", str)`, the value at that place of the input, or an error that
says what is missing or of the wrong type, `need("limit", int, 10)` with a default; `fail("why", retry=True)`, which ends the
attempt; `now`, the time for which the attempt was scheduled; and `key`, the same for every attempt at this step.
What `print` and `logging` write becomes log lines with their level and line.

It has the language and most of the standard library, and no files, no network, no environment, no threads, and no
packages: let other nodes fetch and store. Clock and random numbers depend on the attempt alone, so the
same attempt computes the same; code cannot sleep."""


class CodePython(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    code: Annotated[Source, Meta(examples=["return [row for row in input if row['total'] > 100]"])]
    input: Input = field(default_factory=lambda: Raw(b"null"))
    processor_s: Seconds = CODE_SECONDS_DEFAULT
    memory_mib: Mebibytes = CODE_MEMORY_MIB_DEFAULT


class CodePythonNode:
    """Code in a sandbox touches nothing, so it may be repeated at will."""

    spec: ClassVar = NodeSpec(
        type="code.python",
        title="Python",
        help=_HELP,
        icon="code",
        category="Code",
        repeat="yes",
        config=form(CodePython),
        timeout_s=900,
    )
    config: ClassVar = CodePython

    async def run(self, config: CodePython, context: Context) -> Result:
        limits = (config.processor_s, config.memory_mib)
        return await run_code("python", config.code, config.input, limits, context)


node = CodePythonNode()
