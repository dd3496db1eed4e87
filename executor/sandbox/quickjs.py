"""QuickJS-NG as WebAssembly: JavaScript's guest. It imports twelve functions, and all of them are here."""

import json
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import msgspec
from wasmtime import Engine, FuncType, Linker, Memory, Module, Store, ValType

from contracts.limits import MIB
from executor.sandbox.guest import Surroundings, facts_of
from executor.sandbox.messages import Ending, Failed, Job, Said, ending_of
from executor.sandbox.meter import EPOCHS

_BOOT: Final = Path(__file__).parent / "guests/javascript/boot.js"
_STACK_BYTES: Final = 256 * 1024
_OWN_BYTES: Final = 4 * MIB
"""Of the memory, so that the engine runs out of its own measure before the sandbox' ends."""
_NOT_OPEN, _NOT_SEEKABLE = 8, 52
_I32, _I64 = ValType.i32(), ValType.i64()


class _Line(msgspec.Struct, frozen=True):
    level: str
    line: int
    text: str


class QuickJS:
    """One compiled module; every run is a new instance with a memory of its own."""

    def __init__(self, engine: Engine, file: Path) -> None:
        self._engine = engine
        self._module = Module.deserialize_file(engine, str(file))
        self._boot = _BOOT.read_text(encoding="utf-8")
        self._linker = Linker(engine)
        self._running: _Instance
        for (module, name), (takes, gives, function) in self._imports().items():
            self._linker.define_func(module, name, FuncType(takes, gives), function)

    def run(self, job: Job, say: Callable[[Said], None]) -> Ending:
        store = Store(self._engine)
        store.set_limits(memory_size=job.memory_bytes)
        store.set_epoch_deadline(EPOCHS)
        self._running = running = _Instance(store, Surroundings(job, say))
        running.enter(self._linker.instantiate(store, self._module).exports(store), job.memory_bytes)
        running.evaluate(self._boot)
        running.evaluate(f"__run({json.dumps(job.source)}, {json.dumps(facts_of(job))})")
        return running.ending or Failed(
            kind="code", message="The code waits for something that will never happen."
        )

    def _imports(self) -> dict[tuple[str, str], tuple[list[ValType], list[ValType], Callable[..., Any]]]:
        own: dict[str, tuple[int, bool, Callable[..., Any]]] = {
            "host_get_timezone_offset": (2, True, lambda *_: 0),
            "host_interrupt": (0, True, lambda: 0),
            "host_promise_rejection": (3, False, lambda *_: None),
            "host_module_normalize": (2, True, lambda *_: 0),
            "host_module_load": (2, True, lambda *_: 0),
            "host_call": (5, True, lambda *arguments: self._running.heard(arguments[3], arguments[4])),
        }
        wasi: dict[str, tuple[list[ValType], Callable[..., int]]] = {
            "clock_time_get": (
                [_I32, _I64, _I32],
                lambda _clock, _precision, at: self._running.tell_time(at),
            ),
            "random_get": (
                [_I32, _I32],
                lambda *where: self._running.give_chance(*where),  # noqa: PLW0108  # The instance of that time.
            ),
            "fd_close": ([_I32], lambda *_: _NOT_SEEKABLE),
            "fd_fdstat_get": ([_I32, _I32], lambda *_: _NOT_OPEN),
            "fd_seek": ([_I32, _I64, _I32, _I32], lambda *_: _NOT_SEEKABLE),
            "fd_write": ([_I32] * 4, lambda *_: _NOT_OPEN),
        }
        return {
            ("env", name): ([_I32] * count, [_I32] * gives, function)
            for name, (count, gives, function) in own.items()
        } | {
            ("wasi_snapshot_preview1", name): (takes, [_I32], function)
            for name, (takes, function) in wasi.items()
        }


class _Instance:
    """One run. What its memory holds is the guest's to choose, so nothing read from it is believed."""

    def __init__(self, store: Store, around: Surroundings) -> None:
        self._store, self._around = store, around
        self._exports: Any = None
        self.ending: Ending | None = None

    def enter(self, exports: Any, memory_bytes: int) -> None:
        self._exports = exports
        self._call("_initialize")
        self._call("qjs_init")
        self._call("qjs_set_memory_limit", memory_bytes - _OWN_BYTES)
        self._call("qjs_set_max_stack_size", _STACK_BYTES)
        name, length = self._text("__host")
        host = self._call("qjs_new_host_function", name, length, 0)
        self._call("qjs_set_prop_string", self._call("qjs_get_global"), name, host)

    def evaluate(self, source: str) -> None:
        """Run a script, and everything that it put off."""
        place, length = self._text(source)
        name, _ = self._text("<sandbox>")
        self._call("qjs_eval", place, length, name, 0)
        while self._call("qjs_is_job_pending"):
            if self._call("qjs_execute_pending_job") < 0:
                break

    def heard(self, count: int, arguments: int) -> int:
        """What the script told us: a line, or how it ended; the first ending counts."""
        told = (
            self._string(struct.unpack("<I", self._memory.read(self._store, arguments, arguments + 4))[0])
            if count
            else ""
        )
        if told.startswith("s"):
            self._line(told[1:])
        elif self.ending is None:
            self.ending = ending_of(told)
        nothing: int = self._call("qjs_get_undefined")
        return nothing

    def tell_time(self, at: int) -> int:
        self._memory.write(self._store, struct.pack("<Q", self._around.wall_ns()), at)
        return 0

    def give_chance(self, at: int, size: int) -> int:
        self._memory.write(self._store, self._around.chance(size), at)
        return 0

    def _line(self, told: str) -> None:
        try:
            line = msgspec.json.decode(told, type=_Line)
        except msgspec.MsgspecError:
            return  # Not a line of ours: the script has found another way to the host, and gains nothing by it.
        self._around.say(line.level, max(0, min(line.line, 2**32)), line.text)

    @property
    def _memory(self) -> Memory:
        memory: Memory = self._exports["memory"]
        return memory

    def _call(self, name: str, *arguments: int) -> Any:
        return self._exports[name](self._store, *arguments)

    def _text(self, text: str) -> tuple[int, int]:
        data = text.encode()
        place: int = self._call("wasm_malloc", len(data) + 1)
        self._memory.write(self._store, data + b"\0", place)
        return place, len(data)

    def _string(self, value: int) -> str:
        place: int = self._call("qjs_get_string", value)
        length: int = self._call("strlen", place)
        data = bytes(self._memory.read(self._store, place, place + length))
        self._call("qjs_free_cstring", place)
        return data.decode("utf-8", "replace")
