"""The engines: what they are made of, what they may ask for, and how they come to be."""

import asyncio
import hashlib
import os
from pathlib import Path

import pytest
from wasmtime import Engine, Module
from wasmtime.component import Component

from executor.sandbox.cpython import CPython
from executor.sandbox.engines import GUESTS, Engines, NoEngine
from executor.sandbox.guest import engine
from executor.sandbox.sandbox import Sandbox
from tests.executor.code import tried

QUICKJS = "d4c9375f2b1ca4dc95f72c8aa2982a7a9951ac8011490d79c6582df732b4bbd9"
"""`quickjs.wasm` of npm's quickjs-wasi 3.6.2."""


async def test_python_asks_for_one_thing_of_ours_and_for_the_wasi_that_is_answered(engines: Path) -> None:
    file = await Engines(engines).file("python", lambda _: None)
    runtime = engine()
    asked = set(Component.deserialize_file(runtime, str(file)).type.imports(runtime))
    assert {name for name in asked if not name.startswith("wasi:")} == {"say"}
    assert {name.partition("@")[2] for name in asked if name.startswith("wasi:")} == {"0.2.9"}
    answered = {f"wasi:{name}@0.2.9" for name in CPython(runtime, file)._replaced()}
    assert answered <= asked
    assert {name for name in asked if "clock" in name or "random" in name} <= answered


def test_javascript_is_the_published_file_and_asks_for_twelve_functions() -> None:
    file = GUESTS / "javascript/quickjs.wasm"
    assert hashlib.sha256(file.read_bytes()).hexdigest() == QUICKJS
    asked = {(each.module, each.name) for each in Module.from_file(Engine(), str(file)).imports}
    assert {name for module, name in asked if module == "wasi_snapshot_preview1"} == {
        "clock_time_get",
        "random_get",
        "fd_close",
        "fd_fdstat_get",
        "fd_seek",
        "fd_write",
    }
    assert len(asked) == 12


async def test_an_engine_is_made_when_code_first_needs_it_and_the_step_says_so(tmp_path: Path) -> None:
    async with Sandbox(tmp_path / "new", at_once=1) as box:
        first = await tried(box, "javascript", "return 1")
        second = await tried(box, "javascript", "return 1")
    assert (first.output, second.output) == (1, 1)
    assert [line.text.split(" is ")[1][:10] for line in first.lines if "engine" in line.text] == [
        "being made",
        "ready.",
    ]
    assert not [line for line in second.lines if "engine" in line.text]


async def test_several_who_need_one_at_once_make_it_once(tmp_path: Path) -> None:
    told: list[str] = []
    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(Engines(tmp_path).file("javascript", told.append)) for _ in range(3)]
    [file] = {task.result() for task in tasks}
    assert sorted(each.name for each in tmp_path.iterdir()) == [file.name, "lock"]


async def test_a_making_that_is_cancelled_leaves_nothing_and_can_be_begun_anew(tmp_path: Path) -> None:
    making = asyncio.get_running_loop().create_task(Engines(tmp_path).file("javascript", lambda _: None))
    await asyncio.sleep(0.1)
    making.cancel()
    with pytest.raises(asyncio.CancelledError):
        await making
    assert not list(tmp_path.glob("*.cwasm"))
    assert (await Engines(tmp_path).file("javascript", lambda _: None)).exists()


async def test_where_none_can_be_made_the_step_fails_and_may_be_tried_again(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(NoEngine) as caught:
        await Engines(tmp_path / "file").file("javascript", lambda _: None)
    assert caught.value.retryable
    async with Sandbox(tmp_path / "file", at_once=1) as box:
        assert (await tried(box, "javascript", "return 1")).error[0] == "code.no_engine"


async def test_engines_of_last_month_s_release_are_removed(tmp_path: Path) -> None:
    old, recent, other = (tmp_path / f"{name}.cwasm" for name in ("javascript-1", "javascript-2", "python-1"))
    for each in (old, recent, other):
        each.write_bytes(b"")
    os.utime(old, (1, 1))
    os.utime(other, (1, 1))
    file = await Engines(tmp_path).file("javascript", lambda _: None)
    assert not old.exists()
    assert all(each.exists() for each in (recent, other, file))
