"""Runs JavaScript that stands in the workflow, in a sandbox."""

from typing import Annotated, ClassVar

from msgspec import Meta, Raw, Struct, field

from contracts.limits import CODE_MEMORY_MIB_DEFAULT, CODE_SECONDS_DEFAULT
from contracts.nodes import NodeSpec
from executor.forms import form
from executor.node import Context, Result
from executor.sandbox.step import Input, Mebibytes, Seconds, Source, run_code

_HELP = """Runs JavaScript (ES2023). The code is the body of an async function: what it returns, as JSON, is the output.

It is given `input` (the field below); `need("customer.email", "string")`, the value at that place of the input, or an error
that says what is missing or of the wrong type, `need("limit", "number", 10)` with a default; `fail("why", {retry: true})`,
which ends the attempt; `now`, the time for which the attempt was scheduled; and `key`, the same for every attempt at this
step. What `console.log`, `warn` and `error` write becomes log lines with their level and line.

It has the language, and no files, no network, no `fetch`, no `require` or `import`, no timers, no `Buffer` or `URL`: let
other nodes fetch and store. Clock and random numbers depend on the attempt alone, so the same attempt computes the same."""


class CodeJavaScript(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    code: Annotated[Source, Meta(examples=["return input.filter((row) => row.total > 100);"])]
    input: Input = field(default_factory=lambda: Raw(b"null"))
    processor_s: Seconds = CODE_SECONDS_DEFAULT
    memory_mib: Mebibytes = CODE_MEMORY_MIB_DEFAULT


class CodeJavaScriptNode:
    """Code in a sandbox touches nothing, so it may be repeated at will."""

    spec: ClassVar = NodeSpec(
        type="code.javascript",
        title="JavaScript",
        help=_HELP,
        icon="code",
        category="Code",
        repeat="yes",
        config=form(CodeJavaScript),
        timeout_s=900,
    )
    config: ClassVar = CodeJavaScript

    async def run(self, config: CodeJavaScript, context: Context) -> Result:
        limits = (config.processor_s, config.memory_mib)
        return await run_code("javascript", config.code, config.input, limits, context)


node = CodeJavaScriptNode()
