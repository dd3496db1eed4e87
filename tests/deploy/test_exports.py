"""An exported history proves itself with the public key alone; whatever was done to the file is told in a line."""

import json
import subprocess
import sys
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest
from msgspec import structs

from chassis.ids import digest
from contracts.codec import encode
from deploy.cli import run
from deploy.commands.here import Here
from deploy.operator import exports, public_key
from deploy.operator.exports import Export, checked, read
from deploy.refusals import Refused
from tests.deploy.sealed import KEY, OTHER, RUNS, body, export, heads, signed

[LONG, *_] = [each for each in RUNS if len(each.commits) >= 4]


def test_every_recorded_run_is_proven_to_its_last_commit() -> None:
    for each in RUNS:
        told = checked(export(each), KEY.public)
        assert told.whole, told
        assert (told.proven, told.commits) == (len(each.commits), len(each.commits))
        assert told.anchor == (2 if len(each.commits) > 1 else 1), "the oldest anchor that holds all of it"


def test_what_came_after_the_newest_anchor_is_told_and_is_not_proven() -> None:
    whole = export(LONG)
    told = checked(structs.replace(whole, proofs=whole.proofs[:1]), KEY.public)
    assert (told.whole, told.problems, told.proven) == (False, (), len(LONG.commits) - 1)
    lines = exports.told(told, whole)
    assert lines[-1].endswith(f"commits {told.proven + 1} to {told.commits} came later and are not proven")


def test_without_a_proof_nothing_is_proven() -> None:
    told = checked(structs.replace(export(LONG), proofs=()), KEY.public)
    assert not told.whole
    assert told.proven == 0


# --- Edited --------------------------------------------------------------------------------------


def rechained(commits: list[str]) -> tuple[str, ...]:
    """Every hash made good again, as whoever edits with care would."""
    made, before = list[str](), ""
    for commit in commits:
        frame = json.loads(commit) | {"prev_hash": before}
        made.append(encode(frame).decode())
        before = digest(made[-1].encode())
    return tuple(made)


def test_a_changed_byte_in_any_commit_is_found() -> None:
    whole = export(LONG)
    for place in range(len(LONG.commits)):
        commits = list(whole.commits)
        commits[place] = commits[place].replace('"actor":"', '"actor":"x', 1)
        told = checked(structs.replace(whole, commits=tuple(commits)), KEY.public)
        assert told.problems, place
        assert not told.whole


def test_a_rewrite_with_all_hashes_made_good_is_found() -> None:
    whole = export(LONG)
    commits = list(whole.commits)
    commits[1] = commits[1].replace('"took_ms":0', '"took_ms":1', 1)
    assert commits[1] != whole.commits[1]
    told = checked(structs.replace(whole, commits=rechained(commits)), KEY.public)
    assert told.problems == (
        f"proof 1: anchor 1 does not hold this version {len(LONG.commits) - 1}",
        f"proof 2: anchor 2 does not hold this version {len(LONG.commits)}",
    )
    assert told.proven == 0


@pytest.mark.parametrize(
    ("edit", "words"),
    [
        (lambda c: c[:-1], "which is not in the file"),
        (lambda c: c[1:], "version 1 is not in the file"),
        (lambda c: (c[0], *c[2:]), "version 2 is not in the file"),
        (lambda c: (c[0], c[2], c[1], *c[3:]), "version 2 stands behind version 3"),
        (lambda c: (c[0], c[0], *c[1:]), "version 1 is there twice"),
        (lambda c: (*c[:-1], "{"), "a commit cannot be read"),
        (lambda c: (*c[:-1], ""), "a commit cannot be read"),
        (lambda c: (*c[:-1], '{"a":' * 100_000), "a commit cannot be read"),
        (lambda _: (), "it has no commits"),
    ],
)
def test_what_was_taken_out_put_in_or_moved_is_told(
    edit: Callable[[tuple[str, ...]], tuple[str, ...]], words: str
) -> None:
    whole = export(LONG)
    told = checked(structs.replace(whole, commits=edit(whole.commits)), KEY.public)
    assert any(words in problem for problem in told.problems), told.problems
    assert told.proven == 0


def test_the_history_of_another_run_is_found() -> None:
    other = next(each for each in RUNS if each.run != LONG.run and len(each.commits) >= len(LONG.commits))
    told = checked(structs.replace(export(LONG), commits=tuple(other.commits)), KEY.public)
    assert any("belongs to" in problem for problem in told.problems)
    named = structs.replace(export(LONG), commits=tuple(other.commits), run=other.run)
    assert any("does not hold" in problem for problem in checked(named, KEY.public).problems)


def test_another_plan_is_found() -> None:
    told = checked(structs.replace(export(LONG), plan='{"format":1}'), KEY.public)
    assert told.problems == ("the plan is not the one that the run follows",)


def test_a_proof_that_was_touched_is_found() -> None:
    whole = export(LONG)
    first, second = whole.proofs
    for changed in (
        structs.replace(second, index=second.index ^ 1),
        structs.replace(second, path=second.path[1:]),
        structs.replace(second, path=(*second.path, "0" * 64)),
        structs.replace(second, path=("0" * 64, *second.path[1:])),
        structs.replace(second, version=second.version - 1),
        structs.replace(second, anchor=second.anchor.replace("12:02", "11:02")),
        structs.replace(second, anchor="{}"),
        structs.replace(second, anchor="[" * 60_000),
    ):
        told = checked(structs.replace(whole, proofs=(first, changed)), KEY.public)
        assert told.problems, changed
        assert told.proven == 0


# --- Keys ----------------------------------------------------------------------------------------


def test_another_key_proves_nothing() -> None:
    told = checked(export(LONG), OTHER.public)
    assert len(told.problems) == 3
    assert "which is not the one given" in told.problems[0]
    assert told.proven == 0


def test_a_forger_with_a_key_of_his_own_is_found() -> None:
    told = checked(export(LONG, OTHER), KEY.public)
    assert "anchor 1 is not signed with this key" in " ".join(told.problems)


def test_an_anchor_that_names_our_key_and_is_signed_with_another_is_found() -> None:
    whole, over = export(LONG), heads()
    forged = structs.replace(whole.proofs[1], anchor=signed(body(2, over), OTHER).decode())
    told = checked(structs.replace(whole, proofs=(forged,)), KEY.public)
    assert told.problems == ("proof 1: anchor 2 is not signed with this key",)


def test_a_public_key_is_a_pem_file_and_comes_back_from_it(tmp_path: Path) -> None:
    file = tmp_path / "key.pem"
    file.write_text(public_key.pem(KEY.public))
    assert file.read_text().startswith("-----BEGIN PUBLIC KEY-----")
    assert public_key.read(file) == KEY.public


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "holds no public key"),
        ("-----BEGIN PUBLIC KEY-----\nAAAA\n-----END PUBLIC KEY-----\n", "holds no public key"),
        (
            "-----BEGIN PUBLIC KEY-----\nMFkwEwYHKoZIzj0CAQYIKoZIzj0DAQcDQgAEGL6cVsFBGn5HUFl/a5pEuR3L/Zc3\n"
            "DAXPo8Oxs1GYyJSgZcL2jRTQpbg0OTNJWSHEbg60qTxrmZJzN5BjTsWv8w==\n-----END PUBLIC KEY-----\n",
            "holds",
        ),
    ],
)
def test_a_file_that_is_no_ed25519_key_is_refused(tmp_path: Path, text: str, words: str) -> None:
    file = tmp_path / "key.pem"
    file.write_text(text)
    with pytest.raises(Refused, match=words):
        public_key.read(file)


# --- Hostile files -------------------------------------------------------------------------------


def as_json(**more: Any) -> dict[str, Any]:
    told: dict[str, Any] = json.loads(encode(export(LONG)))
    return told | more


HOSTILE: dict[str, Callable[[], bytes]] = {
    "nothing": lambda: b"",
    "no JSON": lambda: b"\x00\xff\xfe",
    "a list": lambda: b"[]",
    "truncated": lambda: encode(export(LONG))[:-20],
    "half": lambda: encode(export(LONG))[: len(encode(export(LONG))) // 2],
    "another format": lambda: encode(as_json(format="automateos.history.2")),
    "an unknown field": lambda: encode(as_json(more=1)),
    "deep": lambda: b'{"format":' + b"[" * 5_000_000,
    "deep in a list": lambda: b'{"commits":' + b"[" * 5_000_000,
    "deep in an unknown field": lambda: b'{"x":' + b'{"x":' * 1_000_000,
    "a run with a path in it": lambda: encode(as_json(run="../../etc")),
    "numbers that are none": lambda: encode(as_json(proofs=[as_json()["proofs"][0] | {"index": -1}])),
    "huge numbers": lambda: encode(as_json(proofs=[as_json()["proofs"][0] | {"version": 2**70}])).replace(
        b"1180591620717411303424", b"1" + b"0" * 5_000
    ),
    "a path as long as no tree": lambda: encode(
        as_json(proofs=[as_json()["proofs"][0] | {"path": ["0" * 64] * 41}])
    ),
    "too many proofs": lambda: encode(as_json(proofs=[as_json()["proofs"][0]] * 10_001)),
    "too many commits": lambda: encode(as_json(commits=["{}"] * 100_001)),
    "a commit without end": lambda: encode(as_json(commits=["x" * 600_000])),
    "a lone surrogate": lambda: encode(as_json()).replace(b'"plan":"', b'"plan":"\\ud800', 1),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_what_is_no_export_is_refused_in_one_line(
    name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file, key = tmp_path / "export.json", tmp_path / "key.pem"
    file.write_bytes(HOSTILE[name]())
    key.write_text(public_key.pem(KEY.public))
    with pytest.raises(Refused):
        read(file)
    said: list[str] = []
    code = run(["verify", "--file", str(file), "--key", str(key)], Here(environ={}, say=said.append))
    assert (code, said) == (1, [])
    told = capsys.readouterr().err
    assert told.count("\n") == 1
    assert "is no export of automateos.history.1" in told
    assert len(told) < 1_000


def test_a_file_that_is_larger_than_any_export_is_not_read(tmp_path: Path) -> None:
    file = tmp_path / "export.json"
    with file.open("wb") as opened:
        opened.truncate(20 * exports.FILE_BYTES)
    tracemalloc.start()
    with pytest.raises(Refused, match="is larger than 64 MiB"):
        read(file)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 4 * exports.FILE_BYTES


# --- Somebody else's program ---------------------------------------------------------------------


def test_the_program_in_the_documentation_finds_the_same(tmp_path: Path) -> None:
    page = (Path(__file__).parents[2] / "docs" / "tamper-evidence.md").read_text()
    program, file, key = tmp_path / "check.py", tmp_path / "export.json", tmp_path / "key.pem"
    program.write_text(page.split("```python\n")[1].split("```")[0])
    key.write_text(public_key.pem(KEY.public))
    whole = export(LONG)
    commits = [*whole.commits]
    commits[1] = commits[1].replace('"took_ms":0', '"took_ms":1', 1)
    wanted = {
        "": whole,
        "the anchor does not hold this history": structs.replace(whole, commits=rechained(commits)),
        "does not follow from the one before": structs.replace(whole, commits=tuple(commits)),
        "commits are proven": structs.replace(whole, proofs=whole.proofs[:1]),
        "InvalidSignature": export(LONG, OTHER),
    }
    for words, each in wanted.items():
        exports.written(each, file)
        done = subprocess.run(
            [sys.executable, str(program), str(file), str(key)],
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert (done.returncode == 0) == (not words), done.stderr
        assert words in done.stderr
        assert bool(done.stdout) == (not words)


# --- The command ---------------------------------------------------------------------------------


def test_the_command_needs_the_file_and_the_key_and_nothing_else(tmp_path: Path) -> None:
    file, key, said = tmp_path / "export.json", tmp_path / "key.pem", list[str]()
    exports.written(export(LONG), file)
    key.write_text(public_key.pem(KEY.public))
    nowhere = {"AUTOMATEOS_DATA_DIR": str(tmp_path / "nothing")}
    asked = ["verify", "--file", str(file), "--key", str(key)]
    assert run(asked, Here(environ=nowhere, say=said.append)) == 0
    assert f"{len(LONG.commits)} of {len(LONG.commits)} commits are proven by anchor 2" in said[-1]
    assert run([*asked, "--json"], Here(environ=nowhere, say=said.append)) == 0
    assert msgspec.json.decode(said[-1])["whole"] is True
    assert not (tmp_path / "nothing").exists()
    edited = structs.replace(export(LONG), commits=(*LONG.commits[:-1], "{}"))
    exports.written(edited, file)
    assert run(asked, Here(environ=nowhere, say=said.append)) == 1
    assert said[-1].endswith("is not proven")


def test_which_key_is_right_is_never_taken_from_the_file(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "export.json"
    exports.written(export(LONG), file)
    assert run(["verify", "--file", str(file)], Here(environ={}, say=lambda _: None)) == 1
    assert "Name the public key with --key" in capsys.readouterr().err


def test_an_export_that_nobody_could_read_again_is_not_written(tmp_path: Path) -> None:
    large = structs.replace(export(LONG), plan="x" * exports.FILE_BYTES)
    with pytest.raises(Refused, match="larger than"):
        exports.written(large, tmp_path / "export.json")
    assert not (tmp_path / "export.json").exists()


def test_what_is_exported_is_what_was_stored(tmp_path: Path) -> None:
    file = tmp_path / "export.json"
    for each in RUNS:
        exports.written(export(each), file)
        again: Export = read(file)
        assert [commit.encode() for commit in again.commits] == each.bodies
