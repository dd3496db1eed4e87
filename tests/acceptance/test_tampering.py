"""A real installation whose stores somebody tampers with: every change is found, named, and placed between two anchors."""

import asyncio
import hashlib
import json
import subprocess
import sys
import urllib.request
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import asyncpg
import pytest
from msgspec import Struct

from bench.workflows import EVERYBODY, echoes
from chassis.ports import Stored
from contracts.subjects import anchor
from contracts.subjects import run as run_subject
from deploy.testing.installation import Installation, installation
from tests.acceptance.forging import forge, replace_archive, rewritten, with_body
from tests.acceptance.waiting import until
from tests.chaos.stores import operator

ORG = "org_default"


class Scene(Struct, frozen=True):
    """Seven runs, all anchored: five by one anchor, two by the next."""

    stack: Installation
    url: str
    runs: list[str]
    key: Path
    folder: Path


def automateos(stack: Installation, *arguments: str) -> tuple[int, list[str], str]:
    done = subprocess.run(
        [str(Path(sys.executable).with_name("automateos")), *arguments],
        env=stack.environ, capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip
    return done.returncode, done.stdout.splitlines(), done.stderr


def verified(stack: Installation, *asked: str) -> tuple[int, list[dict[str, Any]], dict[str, Any]]:
    """Exit code, findings, and the sum."""
    code, lines, error = automateos(stack, "verify", *asked, "--json")
    assert lines, error
    *findings, told = map(json.loads, lines)
    assert told["findings"] == len(findings)
    return code, findings, told


@pytest.fixture(scope="module")
def scene(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Scene]:
    folder = tmp_path_factory.mktemp("exports")
    with installation() as stack:
        stack.start()
        url = stack.install("three steps", echoes(3), EVERYBODY)
        runs = [started(stack, url, number) for number in range(5)]
        export(stack, runs[0], folder / "first.json", "--anchor")
        runs += [started(stack, url, number) for number in range(5, 7)]
        export(stack, runs[5], folder / "second.json", "--anchor")
        key = folder / "key.pem"
        key.write_text("\n".join(automateos(stack, "verify", "--public-key")[1]) + "\n")
        yield Scene(stack, url, runs, key, folder)


def started(stack: Installation, url: str, number: int) -> str:
    """One run, until the archive has its end."""
    headers = {"content-type": "application/json", "idempotency-key": f"key-{number}"}
    request = urllib.request.Request(url, data=b'{"amount":%d}' % (1000 + number), headers=headers)
    with urllib.request.urlopen(request, timeout=30) as answer:
        run = str(answer.headers["automateos-run"])
    query = "select count(*) from archive.run_ids where run = $1 and ended is not null"
    until(lambda: stack.count(query, run) == 1, f"{run} ends")
    return run


def export(stack: Installation, run: str, file: Path, *more: str) -> None:
    code, lines, error = automateos(stack, "runs", "export", run, "--out", str(file), *more)
    assert code == 0, error
    assert "4 commits, 4 of them proven" in lines[0] or not more, lines


def in_postgres(stack: Installation, act: Callable[[asyncpg.Connection], Awaitable[Any]]) -> Any:
    async def acting() -> Any:
        connection = await stack.postgres()
        try:
            return await act(connection)
        finally:
            await connection.close()

    return asyncio.run(acting())


def _day(stack: Installation) -> str:
    """On which its newest commit was made."""
    newest = "select max(time)::date::text from archive.commits"
    day: str = in_postgres(stack, lambda c: c.fetchval(newest))
    return day


def bodies_of(stack: Installation, run: str) -> list[bytes]:
    rows = asyncio.run(stack.rows("select body from archive.commits where run = $1 order by version", run))
    return [row["body"] for row in rows]


# --- Nothing was touched -------------------------------------------------------------------------


def test_an_installation_that_nobody_touched_is_as_it_was_stored(scene: Scene) -> None:
    code, findings, told = verified(scene.stack, "--all")
    assert (code, findings) == (0, [])
    assert told["count"]["anchors"] >= 2
    assert told["count"]["histories"] > len(scene.runs), "workflows and triggers have histories too"
    for asked in (("--run", scene.runs[0]), ("--run", scene.runs[6]), ("--day", _day(scene.stack))):
        assert verified(scene.stack, *asked)[:2] == (0, [])
    code, lines, _ = automateos(scene.stack, "doctor")
    assert any("ok" in line and "covers RUNS to" in line for line in lines)
    code, lines, _ = automateos(scene.stack, "runs", "verify", "--all")
    assert (code, lines[-1]) == (0, "7 runs verified, 0 with problems")


def test_an_exported_history_is_proven_by_the_public_key_alone(scene: Scene, tmp_path: Path) -> None:
    for name in ("first", "second"):
        done = subprocess.run(
            [
                str(Path(sys.executable).with_name("automateos")),
                *("verify", "--file", str(scene.folder / f"{name}.json"), "--key", str(scene.key)),
            ],
            env={
                "AUTOMATEOS_DATA_DIR": str(tmp_path / "nowhere"),
                "PATH": "",
                "PYTHONPATH": scene.stack.environ.get("PYTHONPATH", ""),
            },
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        assert "4 of 4 commits are proven by anchor" in done.stdout
    told = json.loads((scene.folder / "first.json").read_bytes())
    assert [commit.encode() for commit in told["commits"]] == bodies_of(scene.stack, scene.runs[0])
    assert hashlib.sha256(told["plan"].encode()).hexdigest() in told["commits"][0]


def test_the_past_is_decided_again_and_is_the_same(scene: Scene) -> None:
    code, lines, error = automateos(scene.stack, "replay", "--since", "1h", "--json")
    told = json.loads(lines[-1])
    assert (code, told["runs"], told["diverged"]) == (0, 7, 0), error
    assert told["events"] > 7 * 5


# --- The archive ---------------------------------------------------------------------------------

_HASHED = "update archive.commits set body = $1, hash = sha256($1) where run = $2 and version = $3"


async def flip(connection: asyncpg.Connection, run: str) -> None:
    sql = "update archive.commits set body = set_bit(body, 800, 1 - get_bit(body, 800)) where run = $1 and version = 2"
    await connection.execute(sql, run)


async def flip_and_hash(connection: asyncpg.Connection, run: str) -> None:
    body = await connection.fetchval("select body from archive.commits where run = $1 and version = 2", run)
    changed = body.replace(b'"took_ms":', b'"took_ms":1', 1)
    assert changed != body
    await connection.execute(_HASHED, changed, run, 2)


async def remove(connection: asyncpg.Connection, run: str) -> None:
    await connection.execute("delete from archive.commits where run = $1 and version = 3", run)


async def remove_the_end(connection: asyncpg.Connection, run: str) -> None:
    await connection.execute("delete from archive.commits where run = $1 and version = 4", run)


async def put_in(connection: asyncpg.Connection, run: str) -> None:
    last = await connection.fetchrow("select * from archive.commits where run = $1 and version = 4", run)
    body = last["body"].replace(b'"version":4', b'"version":5')
    before = last["body"].split(b'"prev_hash":"')[1][:64]
    body = body.replace(before, hashlib.sha256(last["body"]).hexdigest().encode())
    values = [*last.values()]
    names = list(last.keys())
    for name, value in {"version": 5, "body": body, "hash": hashlib.sha256(body).digest()}.items():
        values[names.index(name)] = value
    marks = ", ".join(f"${number}" for number in range(1, len(names) + 1))
    await connection.execute(f"insert into archive.commits ({', '.join(names)}) values ({marks})", *values)


async def swap(connection: asyncpg.Connection, run: str) -> None:
    rows = await connection.fetch(
        "select version, body from archive.commits where run = $1 and version in (2, 3) order by version", run
    )
    await connection.execute(_HASHED, rows[0]["body"], run, 3)
    await connection.execute(_HASHED, rows[1]["body"], run, 2)


async def remove_all(connection: asyncpg.Connection, run: str) -> None:
    await connection.execute("delete from archive.commits where run = $1", run)


@pytest.mark.parametrize(
    ("tamper", "version", "words"),
    [
        (flip, 2, "archive: the bytes of version 2 are not those that came there"),
        (flip_and_hash, 2, "version 2: log and archive differ"),
        (remove, 3, "archive: version 2 is followed by 4"),
        (remove_the_end, 4, "log: version 4 lies where the archive, which went past it, saw nothing"),
        (put_in, 5, "log: version 4 is the last one, and the archive has 5"),
        (swap, 2, "archive: version 2 stands behind version 3"),
        (remove_all, 1, "log: version 1 lies where the archive, which went past it, saw nothing"),
    ],
    ids=lambda each: getattr(each, "__name__", ""),
)
def test_what_was_done_to_the_archive_is_found_and_named(
    scene: Scene, tamper: Callable[[asyncpg.Connection, str], Awaitable[None]], version: int, words: str
) -> None:
    run = scene.runs[2]
    rows = in_postgres(scene.stack, lambda c: c.fetch("select * from archive.commits where run = $1", run))
    asked_for = [("--run", run)]
    asked_for += [("--all",)] if tamper in (flip, remove_all) else []
    asked_for += [("--day", _day(scene.stack))] if tamper in (flip, remove) else []
    in_postgres(scene.stack, lambda c: tamper(c, run))
    try:
        for asked in asked_for:
            code, findings, _ = verified(scene.stack, *asked)
            assert code == 1
            assert {finding["history"] for finding in findings} == {f"{ORG}/{run}"}
            [named] = [finding for finding in findings if finding["what"].startswith(words)]
            assert named["version"] == version
            assert "anchor" in named["interval"]
            if tamper in (remove_the_end, remove_all, put_in):
                # Its last commit is another one now: the anchor by itself knows it too.
                assert any(
                    "anchor saw" in each["what"] or "was anchored" in each["what"] for each in findings
                )
    finally:
        in_postgres(scene.stack, lambda c: _restore(c, run, rows))


async def _restore(connection: asyncpg.Connection, run: str, rows: list[asyncpg.Record]) -> None:
    await connection.execute("delete from archive.commits where run = $1", run)
    for row in rows:
        marks = ", ".join(f"${number}" for number in range(1, len(row) + 1))
        await connection.execute(
            f"insert into archive.commits ({', '.join(row.keys())}) values ({marks})", *row.values()
        )


def test_what_was_done_to_a_workflow_s_history_is_found_too(scene: Scene) -> None:
    sql = "update archive.domain_commits set body = $1, hash = sha256($1) where aggregate = 'workflow' and version = 1"
    [row] = asyncio.run(
        scene.stack.rows(
            "select id, body from archive.domain_commits where aggregate = 'workflow' and version = 1"
        )
    )
    in_postgres(scene.stack, lambda c: c.execute(sql, row["body"].replace(b"three steps", b"thrice step")))
    try:
        code, findings, _ = verified(scene.stack, "--all")
        assert code == 1
        assert {finding["history"] for finding in findings} == {f"{ORG}/workflow/{row['id']}"}
        assert findings[0]["version"] == 1
        assert "log and archive differ" in findings[0]["what"]
        assert "anchor" in findings[0]["interval"]
    finally:
        in_postgres(scene.stack, lambda c: c.execute(sql, row["body"]))
    assert verified(scene.stack, "--all")[:2] == (0, [])


def test_a_decision_that_no_release_would_take_is_listed_by_replay(scene: Scene) -> None:
    run = scene.runs[4]
    bodies = bodies_of(scene.stack, run)
    forged = rewritten(bodies, 2, b'"timeout_s":60', b'"timeout_s":61')
    in_postgres(scene.stack, lambda c: replace_archive(c, run, forged))
    try:
        code, lines, _ = automateos(scene.stack, "replay", "--since", "1d", "--json")
        *partings, told = map(json.loads, lines)
        assert (code, told["diverged"], [each["run"] for each in partings]) == (1, 1, [run])
        recorded, recomputed = (partings[0]["divergence"][name] for name in ("recorded", "recomputed"))
        assert (recorded["timeout_s"], recomputed["timeout_s"]) == (61, 60)
        code, lines, _ = automateos(scene.stack, "replay", "--since", "beginning")
        assert code == 1
        assert f"run {ORG}/{run} parts from its history at event" in lines[0]
        assert "1 part from their histories" in lines[-1]
    finally:
        in_postgres(scene.stack, lambda c: replace_archive(c, run, bodies))


# --- The log, and both -----------------------------------------------------------------------------


def test_what_was_done_to_the_log_and_a_consistent_rewrite_of_both_are_found(scene: Scene) -> None:
    """In the log one run with a byte changed, one without its third commit, one with two commits swapped, one with a
    commit more. In both stores one that is rewritten with every hash made good, and one that is gone: only the
    signatures betray these."""
    flipped, removed, swapped, longer, rewrote, gone, untouched = scene.runs
    original = bodies_of(scene.stack, rewrote)
    forged_history = rewritten(original, 2, b'"took_ms":', b'"took_ms":9')

    def forged(log: list[Stored]) -> list[Stored | None]:
        made: list[Stored | None] = list(log)

        def place(run: str, version: int) -> int:
            mine = [each.sequence for each in log if each.subject == run_subject(ORG, run)]
            return mine[version - 1] - 1

        at = place(flipped, 2)
        made[at] = with_body(log[at], log[at].body.replace(b'"took_ms":', b'"took_ms":7', 1))
        made[place(removed, 3)] = None
        a, b = place(swapped, 2), place(swapped, 3)
        made[a], made[b] = with_body(log[a], log[b].body), with_body(log[b], log[a].body)
        last = log[place(longer, 4)]
        before = last.body.split(b'"prev_hash":"')[1][:64]
        more = last.body.replace(b'"version":4', b'"version":5')
        made.append(with_body(last, more.replace(before, hashlib.sha256(last.body).hexdigest().encode())))
        for version in range(1, 5):
            made[place(gone, version)] = None
        for version, body in enumerate(forged_history, 1):
            made[place(rewrote, version)] = with_body(log[place(rewrote, version)], body)
        return made

    async def also(connection: asyncpg.Connection) -> None:
        await replace_archive(connection, rewrote, forged_history)
        await connection.execute("delete from archive.commits where run = $1", gone)
        await connection.execute("delete from archive.run_ids where run = $1", gone)
        await connection.execute("delete from read.runs where id = $1", gone)

    started(scene.stack, scene.url, 99)
    assert forge(scene.stack, forged, also) == 0, "a stop leaves nothing without an anchor"
    assert bodies_of(scene.stack, rewrote) == forged_history

    code, findings, _ = verified(scene.stack, "--all")
    assert code == 1
    told = {
        run: [finding for finding in findings if finding["history"] == f"{ORG}/{run}"] for run in scene.runs
    }
    assert sum(map(len, told.values())) == len(findings), "no anchor was touched, and nobody else's history"
    assert told[untouched] == []
    expected = {
        flipped: (2, "version 2: log and archive differ"),
        removed: (3, "log: version 2 is followed by 4"),
        swapped: (2, "log: version 2 stands behind version 3"),
        longer: (5, "log: version 5 lies where the archive, which went past it, saw nothing"),
        rewrote: (4, "version 4 is not the commit that was anchored"),
        gone: (4, "version 4 was anchored and is not in the archive"),
    }
    for run, (version, words) in expected.items():
        [named] = [finding for finding in told[run] if finding["what"].startswith(words)]
        assert named["version"] == version
    [betrayed] = told[rewrote]
    assert betrayed["interval"].startswith(("before the first anchor (", "between anchor "))
    assert verified(scene.stack, "--run", rewrote)[:2] == (1, [betrayed])
    assert verified(scene.stack, "--run", untouched)[:2] == (0, [])
    code, lost, _ = verified(scene.stack, "--run", gone)
    assert (code, {each["what"] for each in lost}) == (1, {"there is no such run", told[gone][0]["what"]})
    # By the chain alone nobody could have known.
    code, lines, _ = automateos(scene.stack, "runs", "verify", rewrote)
    assert (code, lines) == (0, [f"{rewrote}  whole: 4 commits, 4 in the log, 4 in the archive"])
    # An export of the forged history carries proofs that do not hold.
    file = scene.folder / "forged.json"
    export(scene.stack, rewrote, file)
    code, lines, _ = automateos(scene.stack, "verify", "--file", str(file), "--key", str(scene.key))
    assert code == 1
    assert "does not hold this version 4" in lines[0]
    # What was exported before is still proven.
    first = str(scene.folder / "first.json")
    assert automateos(scene.stack, "verify", "--file", first, "--key", str(scene.key))[0] == 0


def test_an_anchor_that_nobody_can_read_is_named_and_the_next_one_is_made_all_the_same(
    scene: Scene, tmp_path: Path
) -> None:
    """Last of all: what lies in the log of anchors cannot be taken away."""
    epoch = in_postgres(scene.stack, lambda c: c.fetchval("select max(epoch) from archive.commits"))

    async def lay() -> None:
        async with operator(scene.stack, "projections") as log:
            [reply] = await log.ask([(anchor(epoch), b"\x00 poison", b"")])
            assert reply is not None
            assert b'"seq"' in reply[1]

    asyncio.run(lay())
    run = started(scene.stack, scene.url, 100)
    export(scene.stack, run, tmp_path / "after.json", "--anchor")
    [finding] = verified(scene.stack, "--run", run)[1]
    assert "cannot be read" in finding["what"]
    _, lines, _ = automateos(scene.stack, "doctor")
    assert any("ok" in line and "covers RUNS to" in line for line in lines)
