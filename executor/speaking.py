"""What one attempt says: the lines of its node between one that it began and one that tells how it ended.

Rule that holds here: a secret that was opened for the attempt is blanked out of all of them, whoever wrote it there.
"""

import asyncio
from collections.abc import Iterable, Sequence
from contextlib import AbstractAsyncContextManager
from datetime import datetime
from typing import Any, Final

from chassis.egress import Credential, EgressError
from contracts.codec import decode_json, encode
from contracts.limits import (
    KIB,
    LOG_BYTES,
    LOG_FIELD_CHARS,
    LOG_LINES,
    LOG_RECORD_BYTES,
    LOG_RUN_BYTES,
    LOG_RUN_LINES,
    LOG_TEXT_CHARS,
    MIB,
)
from contracts.logs import LogLevel, LogLine, LogRecord, Missing
from contracts.messages import Task
from contracts.payloads import Blob
from executor.errors import StepError, from_egress, withheld
from executor.journal import Journal
from executor.lines import made, shown
from executor.node import Context, Given, Node, Outside, Result, SecretReference
from executor.opening import marked_values
from executor.outgoing import Told
from executor.outputs import pack
from executor.redaction import Redaction, leaves, texts_of
from executor.relay import Relay
from executor.sandbox.sandbox import Sandbox

_SLOW_SECONDS: Final = 1.0
_SHORTEST_SENSITIVE: Final = 3
"""Of a marked value: a shorter one is found in every line."""
_KEPT: Final = 4
"""Of an attempt's lines: for those that tell how it began and ended, and that something is missing."""
_SHORT_BYTES: Final = 200
"""What a line of our own counts."""
_BOUND: Final = "An attempt keeps {} lines or {} KiB: what it says beyond them is counted and not kept."
_RUN_BOUND: Final = (
    "An executor keeps {} lines or {} MiB of a run: {} lines beyond them were not kept so far."
)

_UNKNOWN: Final = "{} lines: not kept. They were said by an attempt whose marked fields are not known."


class Said:
    """Lines within the bounds, and the secrets that must not be in them."""

    def __init__(self, task: Task, journal: Journal, *, is_strange: bool = False) -> None:
        """`is_strange`: the workflow marks something of the output that the node does not know to be sensitive."""
        self._task, self._journal, self._is_strange = task, journal, is_strange
        self._began = journal.clock.seconds()
        self._opened = False
        self._lines: list[LogLine] = []
        self._count = self._bytes = 0
        self._over = Missing(why="attempt")
        self._lost = self._lost_told = 0
        self._secrets: list[str] = []
        self._held = bool(task.sensitive)
        """Nothing is told before it is known what must not be."""
        self._redaction: Redaction | None = None
        self._spoken: set[int] = set()
        """Which of the lines that are held the node said itself."""
        self._only_call: tuple[float, str, dict[str, Any]] | None = None
        """When it was told, and what: a call that went well and has nothing else beside it yet."""

    @property
    def _took_s(self) -> float:
        return self._journal.clock.seconds() - self._began

    def hide(self, texts: Iterable[str]) -> None:
        """From now on, and in what was not stored yet."""
        self._secrets += texts
        self._redaction = None

    def add(self, level: LogLevel, text: str, fields: dict[str, Any], *, by_node: bool = True) -> None:
        now = self._journal.clock.now().timestamp()
        if not by_node and level == "info" and not self._opened and self._only_call is None:
            self._only_call = (now, text, fields)
        else:
            self._open()
            self._add(made(now, level, text, fields), by_node=by_node)

    def _add(self, line: LogLine, *, by_node: bool) -> None:
        size = _size(line)
        if self._over.lines or self._count >= LOG_LINES - _KEPT or self._bytes + size > LOG_BYTES:
            self.leave_out(1, _length(line))
            return
        self._count += 1
        self._bytes += size
        if self._held and by_node:
            self._spoken.add(id(line))
        self._put(line, size)

    def leave_out(self, lines: int, chars: int) -> None:
        """Count what the attempt's bound takes; the first time, say so at once."""
        over = self._over
        self._over = Missing(why="attempt", lines=over.lines + lines, chars=over.chars + chars)
        if not over.lines:
            self._put(self._marker(_BOUND.format(LOG_LINES, LOG_BYTES // KIB), self._over))

    def end(self, level: LogLevel, text: str, **fields: Any) -> None:
        """The last line. An attempt that said nothing, made one call at most, was quick and ended well stays silent."""
        over = self._over
        if over.lines:
            self._put(self._marker(f"{over.lines} lines, {over.chars} characters: not kept.", over))
        if self._opened or level != "info" or self._took_s >= _SLOW_SECONDS:
            self._put(self._made(level, text, fields | {"took_ms": round(self._took_s * 1000)}))

    def unstored(self, record: LogRecord) -> None:
        self._lost += sum(line.missing is None or line.missing.why != "unstored" for line in record.lines)

    def release(self, brought: Sequence[Any]) -> None:
        """The attempt is over, and this is what it brought: what is marked in it is in no line. Safe to call again.

        Where it brought nothing, nobody knows what is marked: then no line of the node is told.
        """
        if self._held and not brought and self._is_strange:
            self._withhold()
        for output in brought if self._held else ():
            texts = [text for value in marked_values(output, self._task.sensitive) for text in leaves(value)]
            self.hide([text for text in texts if len(text) >= _SHORTEST_SENSITIVE])
        self._held = False

    def _withhold(self) -> None:
        spoken = [place for place, line in enumerate(self._lines) if id(line) in self._spoken]
        if not spoken:
            return
        chars = sum(_length(self._lines[place]) for place in spoken)
        missing = Missing(why="marked", lines=len(spoken), chars=chars)
        self._lines[spoken[0]] = self._marker(_UNKNOWN.format(len(spoken)), missing)
        for place in reversed(spoken[1:]):
            del self._lines[place]

    def records(self) -> list[LogRecord]:
        if self._held:
            return []
        if not self._opened and self._took_s >= _SLOW_SECONDS:
            self._open()
        if not self._lines:
            return []
        lines, self._lines = self._lines, []
        if self._lost > self._lost_told:
            self._lost_told = self._lost
            gap = Missing(why="unstored", lines=self._lost)
            lines.insert(0, self._marker(f"{self._lost} lines could not be stored.", gap))
        records: list[list[LogLine]] = []
        size = LOG_RECORD_BYTES
        for line in map(self._shown, lines):
            length = len(encode(line))
            if size + length > LOG_RECORD_BYTES or len(records[-1]) == LOG_LINES:
                records.append([])
                size = 0
            records[-1].append(line)
            size += length
        return [self._record(each) for each in records]

    def _record(self, lines: list[LogLine]) -> LogRecord:
        task = self._task
        return LogRecord(
            org=task.org,
            run=task.run,
            step=task.step,
            node=task.node,
            attempt=task.attempt,
            executor=self._journal.executor,
            lines=tuple(lines),
        )

    def _put(self, line: LogLine, size: int = _SHORT_BYTES) -> None:
        """Keep it, unless the run has said too much already."""
        self._open()
        allowance = self._journal.allowances.of(self._task.org, self._task.run)
        if allowance.take(size):
            self._lines.append(line)
        elif missing := allowance.to_tell():
            bound = _RUN_BOUND.format(LOG_RUN_LINES, LOG_RUN_BYTES // MIB, missing)
            self._lines.append(self._marker(bound, Missing(why="run", lines=missing)))

    def _open(self) -> None:
        if not self._opened:
            self._opened = True
            # Only now: most attempts say nothing.
            began_at = self._journal.clock.now().timestamp() - self._took_s
            self._put(made(began_at, "info", f"Attempt {self._task.attempt} begins.", {}))
            if self._only_call:
                told_at, text, fields = self._only_call
                self._add(made(told_at, "info", text, fields), by_node=False)

    def _marker(self, text: str, missing: Missing) -> LogLine:
        return LogLine(
            time=self._journal.clock.now().timestamp(), level="warning", text=text, missing=missing
        )

    def _made(self, level: LogLevel, text: str, fields: dict[str, Any]) -> LogLine:
        return made(self._journal.clock.now().timestamp(), level, text, fields)

    def _shown(self, line: LogLine) -> LogLine:
        if self._redaction is None:
            self._redaction = Redaction.of(self._secrets)
        return shown(line, self._redaction)


def _size(line: LogLine) -> int:
    """About as many bytes as will be kept of it."""
    values = (str(value)[:LOG_FIELD_CHARS] for value in line.fields.values())
    parts = (line.text[:LOG_TEXT_CHARS], *line.fields, *values)
    return sum(len(part.encode()) for part in parts)


def _length(line: LogLine) -> int:
    cut = line.missing.chars if line.missing else 0
    return cut + len(line.text) + sum(len(name) + len(str(value)) for name, value in line.fields.items())


class SpeakingContext(Context):
    """What a node is given, and a place for what it says."""

    def __init__(self, given: Given, said: Said | None) -> None:
        self._given, self._said = given, said

    @property
    def task(self) -> Task:
        return self._given.task

    @property
    def key(self) -> str:
        return self._given.key

    @property
    def egress(self) -> Outside:
        return Told(self._given.egress, self._told)

    @property
    def relay(self) -> Relay:
        return self._given.relay

    @property
    def sandbox(self) -> Sandbox:
        return self._given.sandbox

    @property
    def now(self) -> datetime:
        return self._given.now

    def effect(self) -> AbstractAsyncContextManager[None]:
        return self._given.effect()

    async def open(self, reference: SecretReference) -> Credential:
        credential = await self._given.open(reference)
        if self._said is not None:
            self._said.hide(texts_of(credential.value))
        return credential

    async def fetch(self, blob: Blob) -> bytes:
        return await self._given.fetch(blob)

    def log(self, text: str, level: LogLevel = "info", **fields: Any) -> None:
        if self._said is not None:
            self._said.add(level, text, fields)

    def _told(self, text: str, level: LogLevel = "info", **fields: Any) -> None:
        """What our egress says of a call: nothing of what it brought."""
        if self._said is not None:
            self._said.add(level, text, fields, by_node=False)

    def unsaid(self, lines: int, chars: int) -> None:
        if self._said is not None:
            self._said.leave_out(lines, chars)


class SpeakingNode:
    """A node whose attempts are heard by a journal; without one nobody listens."""

    def __init__(self, node: Node[Any], journal: Journal | None) -> None:
        self.node, self._journal = node, journal

    async def run(self, config: Any, given: Given) -> Result:
        """As the node itself, whatever comes of it."""
        if self._journal is None:
            return await self.node.run(config, SpeakingContext(given, None))
        strange = self.is_strange_to(given.task)
        said = Said(given.task, self._journal, is_strange=strange)
        self._journal.begins(said)
        try:
            secrets = [*given.proofs, *given.unsealed]
            if secrets:
                said.hide(secrets)
            result = await self.node.run(config, SpeakingContext(given, said))
            if given.task.sensitive:
                said.release(_brought(result.output))
            said.end("info", f"Attempt {given.task.attempt} succeeded.")
        except asyncio.CancelledError:
            said.end("warning", f"Attempt {given.task.attempt} was stopped.")
            raise
        except (StepError, EgressError) as error:
            told = from_egress(error, repeatable=True) if isinstance(error, EgressError) else error
            told = withheld(told) if strange and told is error else told
            said.end("error", f"Attempt {given.task.attempt} failed: {told}", code=told.code)
            raise
        except BaseException as error:
            # The kind only: the text of a strange exception may hold what nobody shall see.
            said.end("error", f"Attempt {given.task.attempt} failed.", error=type(error).__name__)
            raise
        finally:
            said.release(())
            self._journal.ends(said)
        return result

    def is_strange_to(self, task: Task) -> bool:
        """A type that names what is sensitive itself keeps it out of its own words; of other marks it knows nothing."""
        return not set(task.sensitive).issubset(self.node.spec.sensitive)


def _brought(output: Any) -> list[Any]:
    """The output as it would be told; none when it cannot be."""
    try:
        return [decode_json(pack(output).body)]
    except StepError:
        return []
