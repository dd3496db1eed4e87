"""What attempts say: stored beside the work, within bounds, and never a secret."""

import asyncio
import base64
import itertools
import json
from typing import Any
from urllib.parse import quote

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from chassis.secret import REDACTED, BasicSecret, BearerSecret, Secret
from contracts.limits import (
    LOG_BYTES,
    LOG_FIELD_CHARS,
    LOG_FIELDS,
    LOG_LINES,
    LOG_RECORD_BYTES,
    LOG_RUN_BYTES,
    LOG_TEXT_CHARS,
)
from contracts.logs import Missing
from contracts.messages import StepDone, Task
from contracts.subjects import log as log_subject
from executor.allowances import Allowances
from executor.errors import Refused
from executor.node import Context, SecretReference
from executor.redaction import Redaction
from executor.speaking import Said
from tests.executor.fakes import ORG, RUN, STEP, World, simulated, task, until
from tests.executor.nodes import Scripted

CANARY = 'CANARY-/+ü"%&=0f3a'


def lines_of(world: World) -> list[tuple[str, str]]:
    return [(line.level, line.text) for record in world.said for line in record.lines]


def attempted(world: World, *tasks: Task, seconds: float = 200) -> None:
    async def main() -> None:
        async with world.executor():
            world.source.put(*tasks)
            await until(lambda: len(world.outcomes) == len(tasks), seconds)

    simulated(main())


def speaking(script: Any) -> World:
    return World(Scripted(script))


def test_lines_stand_between_the_beginning_and_the_end_of_their_attempt() -> None:
    async def script(context: Context) -> None:
        context.log("looking", part=3)
        context.log("odd", "warning")

    world = speaking(script)
    attempted(world, task(node_type="test", attempt=2))
    assert lines_of(world) == [
        ("info", "Attempt 2 begins."),
        ("info", "looking"),
        ("warning", "odd"),
        ("info", "Attempt 2 succeeded."),
    ]
    [record] = world.said
    assert (record.org, record.run, record.step, record.node, record.attempt) == (ORG, RUN, STEP, "call", 2)
    assert record.lines[1].fields == {"part": 3}
    assert world.logs.letters[0][0] == log_subject(ORG, RUN, STEP)


def test_a_quick_attempt_that_says_nothing_leaves_nothing() -> None:
    world = World()
    attempted(world, task({"value": 1}))
    assert world.said == []


def call(said: Said, text: str = "called") -> None:
    """As our egress tells a call that went well."""
    said.add("info", text, {"host": "there"}, by_node=False)


@pytest.mark.parametrize(
    ("script", "told"),
    [
        ((call,), []),
        ((call, lambda said: call(said, "again")), ["called", "again"]),
        ((call, lambda said: said.add("info", "stored", {})), ["called", "stored"]),
        ((lambda said: said.add("info", "asking", {}), call), ["asking", "called"]),
        ((lambda said: said.add("warning", "called", {"host": "there"}, by_node=False),), ["called"]),
    ],
)
async def test_a_call_that_went_well_is_told_only_beside_something_else(script: Any, told: list[str]) -> None:
    said = Said(task(), World().journal)
    for each in script:
        each(said)
    said.end("info", "Attempt 1 succeeded.")
    lines = [line for record in said.records() for line in record.lines]
    assert [line.text for line in lines[1:-1]] == told
    assert [line.time for line in lines] == sorted(line.time for line in lines)


def test_a_call_that_went_well_is_told_of_an_attempt_that_is_slow_or_fails() -> None:
    async def failing(said: Said) -> None:
        said.end("error", "Attempt 1 failed.")

    async def slow(said: Said) -> None:
        assert said.records() == []
        await asyncio.sleep(1)

    async def told(script: Any) -> list[str]:
        said = Said(task(), World().journal)
        call(said)
        await script(said)
        return [line.text for record in said.records() for line in record.lines]

    assert simulated(told(slow)) == ["Attempt 1 begins.", "called"]
    assert simulated(told(failing)) == ["Attempt 1 begins.", "called", "Attempt 1 failed."]


def test_a_failure_is_told_with_its_reason_and_a_crash_with_its_kind_only() -> None:
    async def refused(_: Context) -> None:
        raise Refused("It said no.")

    async def crashed(_: Context) -> None:
        raise KeyError(CANARY)

    world = World(Scripted(refused), Scripted(crashed, "test.crash"))
    attempted(world, task(node_type="test"), task(node_type="test.crash", attempt=2))
    told = dict(itertools.chain.from_iterable(((r.attempt, r.lines[-1]),) for r in world.said))
    assert (told[1].level, told[1].text) == ("error", "Attempt 1 failed: It said no.")
    assert told[1].fields["code"] == "refused"
    assert (told[2].text, told[2].fields["error"]) == ("Attempt 2 failed.", "KeyError")
    assert CANARY.encode() not in b"".join(body for _, body, _ in world.logs.letters)


def test_a_slow_attempt_is_heard_while_it_goes_on() -> None:
    async def script(context: Context) -> None:
        context.log("half")
        await asyncio.sleep(10)

    world = speaking(script)

    async def main() -> None:
        async with world.executor():
            world.source.put(task(node_type="test"))
            await until(lambda: lines_of(world), 200)
            assert world.outcomes == []
            assert lines_of(world) == [("info", "Attempt 1 begins."), ("info", "half")]
            await until(lambda: world.outcomes, 200)

    simulated(main())
    assert lines_of(world)[2:] == [("info", "Attempt 1 succeeded.")]


def test_an_attempt_that_is_stopped_says_so() -> None:
    async def script(_: Context) -> None:
        await asyncio.sleep(100)

    world = speaking(script)
    attempted(world, task(node_type="test", timeout_s=3.0))
    assert lines_of(world)[-1] == ("warning", "Attempt 1 was stopped.")


def test_what_an_attempt_may_say_is_bounded_and_what_is_missing_is_counted() -> None:
    async def many(context: Context) -> None:
        for number in range(LOG_LINES * 2):
            context.log(f"line {number}")

    async def much(context: Context) -> None:
        for _ in range(200):
            context.log("x" * 10_000, **{f"f{n}": "y" * 10_000 for n in range(100)})

    world = World(Scripted(many), Scripted(much, "test.much"))
    attempted(world, task(node_type="test"), task(node_type="test.much", attempt=2))
    kept = []
    for attempt in (1, 2):
        mine = [record for record in world.said if record.attempt == attempt]
        lines = [line for record in mine for line in record.lines]
        assert len(lines) <= LOG_LINES
        sizes = [len(msgspec.json.encode(record)) for record in mine]
        assert sum(sizes) < LOG_BYTES * 2
        assert max(sizes) < LOG_RECORD_BYTES + 16 * LOG_TEXT_CHARS, "one line more at the most"
        assert all(len(line.text) <= LOG_TEXT_CHARS and len(line.fields) <= 20 for line in lines)
        first, last = (line.missing for line in lines[-3:-1] if line.missing)
        assert (first.why, first.lines, last.why) == ("attempt", 1, "attempt")
        kept.append((len(lines[1:-3]), last))
        assert lines[-1].text == f"Attempt {attempt} succeeded."
    assert kept[0][0] + kept[0][1].lines == LOG_LINES * 2
    assert kept[0][1].chars == sum(len(f"line {number}") for number in range(kept[0][0], LOG_LINES * 2))
    assert kept[1][0] + kept[1][1].lines == 200


def test_a_line_that_is_cut_says_how_much_of_it_is_missing() -> None:
    async def script(context: Context) -> None:
        context.log("x" * (LOG_TEXT_CHARS + 10), a="y" * (LOG_FIELD_CHARS + 5))
        context.log("z" * 100_000, **{f"f{n}": n for n in range(LOG_FIELDS + 3)})
        context.log("w" * LOG_TEXT_CHARS, a="v" * LOG_FIELD_CHARS)

    world = speaking(script)
    attempted(world, task(node_type="test"))
    one, two, three = world.said[0].lines[1:4]
    # The character that says "cut" takes the place of one.
    assert one.missing == Missing(why="line", chars=11 + 6)
    assert two.missing == Missing(why="line", chars=100_000 - (LOG_TEXT_CHARS - 1), fields=3)
    assert (one.text[-2:], len(one.text), len(two.fields)) == ("x…", LOG_TEXT_CHARS, LOG_FIELDS)
    assert three.missing is None


def test_a_run_of_many_attempts_is_bounded_too_and_what_is_missing_is_counted(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("executor.allowances.LOG_RUN_LINES", 30)

    async def script(context: Context) -> None:
        for number in range(5):
            context.log(f"line {number}")

    world = speaking(script)
    other = task(node_type="test", run="run-2")
    attempted(world, *(task(node_type="test", attempt=number) for number in range(1, 101)), other)
    lines = [line for record in world.said if record.run == RUN for line in record.lines]
    told = [line.missing.lines for line in lines if line.missing and line.missing.why == "run"]
    assert len(lines) - len(told) == 30
    assert told == [1, 2, 4, 8, 16, 32, 64, 128, 256, 512]
    assert len([line for record in world.said if record.run == "run-2" for line in record.lines]) == 7


def test_few_runs_are_remembered_and_by_their_bytes_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("executor.allowances.RUNS", 2)
    allowances = Allowances()
    first = allowances.of("o", "1")
    assert first.take(LOG_RUN_BYTES)
    assert not first.take(1)
    assert not first.take(0), "what is kept has no holes"
    allowances.of("o", "2")
    assert allowances.of("o", "1") is first
    allowances.of("o", "3")
    assert allowances.of("o", "1") is first
    assert allowances.of("o", "2").missing == 0


def test_lines_that_could_not_be_stored_are_counted_by_the_next_that_can_be() -> None:
    async def script(context: Context) -> None:
        context.log("lost")
        await asyncio.sleep(5)
        world.disk_is_full = False
        context.log("there")

    world = speaking(script)
    world.disk_is_full = True
    attempted(world, task(node_type="test"))
    lines = [line for record in world.said for line in record.lines]
    assert lines[0].missing == Missing(why="unstored", lines=2)
    assert [line.text for line in lines[1:]] == ["there", "Attempt 1 succeeded."]


def test_with_the_disk_three_quarters_full_or_the_log_away_lines_are_counted_and_gone() -> None:
    async def script(context: Context) -> None:
        context.log("looking")

    world = speaking(script)
    world.disk_is_full = True
    attempted(world, task(node_type="test"))
    assert (world.said, world.journal.dropped) == ([], 3)
    world = speaking(script)
    world.logs.away = 1
    attempted(world, task(node_type="test"))
    assert (world.said, world.journal.dropped) == ([], 3)
    assert isinstance(world.outcomes[0], StepDone)


def test_whatever_a_node_says_harms_nobody() -> None:
    async def script(context: Context) -> None:
        context.log(
            "\ud800 \0", odd=object, none=None, nan=float("nan"), huge=10**9_000, raw=b"\xff", deep=[[{}]]
        )
        context.log(7)  # type: ignore[arg-type]  # A stranger's code.

    world = speaking(script)
    attempted(world, task(node_type="test"))
    assert isinstance(world.outcomes[0], StepDone)
    assert lines_of(world)[2] == ("info", "7")


def written_forms(text: str) -> list[str]:
    data = text.encode()
    return [
        text,
        f"a{text}b",
        quote(text, safe=""),
        json.dumps({"k": text}),
        data.hex(),
        *(
            base64.b64encode(b"u" * ahead + data + b"v" * behind).decode()
            for ahead in range(3)
            for behind in range(3)
        ),
        base64.urlsafe_b64encode(b"user:" + data).decode(),
    ]


def test_an_opened_secret_is_blanked_in_every_form_also_in_what_was_said_before() -> None:
    async def script(context: Context) -> None:
        context.log(f"before {CANARY}")
        await context.open(SecretReference(id="s1"))
        for form in written_forms(CANARY):
            context.log(form, value=form, **{"authorization": "Bearer x", form: 1})

    world = speaking(script)
    world.safe.keep("s1", BasicSecret(user="u", password=Secret(CANARY)), "api.example.org")
    config = {"auth": {"$secret": "s1"}}
    attempted(world, task(config, node_type="test", secrets=("/auth",)))
    stored = b"".join(body for _, body, _ in world.logs.letters).decode()
    core = base64.b64encode(CANARY.encode()).decode()[4:16]
    for form in (CANARY, quote(CANARY, safe=""), CANARY.encode().hex(), core, "Bearer x"):
        assert form not in stored
        assert json.dumps(form)[1:-1] not in stored
    assert stored.count(REDACTED) > 20


@given(st.text(min_size=6), st.text(), st.text())
def test_nothing_of_a_secret_is_left_wherever_it_stands(secret: str, before: str, behind: str) -> None:
    try:
        secret.encode()
    except UnicodeEncodeError:
        return
    shown = Redaction.of([secret]).text(f"{before}{secret}{behind}")
    assert secret not in shown.replace(REDACTED, "\n\n") or secret in REDACTED


def test_a_secret_that_is_cut_by_the_bound_is_not_half_shown() -> None:
    async def script(context: Context) -> None:
        await context.open(SecretReference(id="s1"))
        for room in range(1, 12):
            context.log("x" * (LOG_TEXT_CHARS - room) + CANARY)
            context.log("x" * (2 * LOG_TEXT_CHARS - room) + CANARY, value="y" * (1_000 - room) + CANARY)

    world = speaking(script)
    world.safe.keep("s1", BearerSecret(token=Secret(CANARY)), "api.example.org")
    attempted(world, task({"auth": {"$secret": "s1"}}, node_type="test", secrets=("/auth",)))
    assert len(lines_of(world)) == 24
    assert "CA" not in "".join(f"{line.text}{line.fields}" for record in world.said for line in record.lines)


@pytest.mark.parametrize("value", [BearerSecret(token=Secret(CANARY))], ids=["bearer"])
def test_a_secret_object_that_is_said_shows_nothing(value: Any) -> None:
    async def script(context: Context) -> None:
        context.log(f"{value} {value.token}", whole=value, token=value.token)

    world = speaking(script)
    attempted(world, task(node_type="test"))
    assert "CANARY" not in b"".join(body for _, body, _ in world.logs.letters).decode()
