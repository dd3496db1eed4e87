"""CPython as a WebAssembly component: Python's guest."""

from collections.abc import Callable
from pathlib import Path
from typing import Any, Final, NoReturn

from wasmtime import Engine, Store, WasiConfig
from wasmtime.component import Component, Linker, LinkerInstance, Record

from executor.sandbox.guest import Forbidden, Surroundings, facts_of
from executor.sandbox.messages import Ending, Job, Said, ending_of
from executor.sandbox.meter import EPOCHS

_WASI: Final = "0.2.9"
_NANOSECONDS: Final = 1_000_000_000


class CPython:
    """One compiled component; every run is a new instance with a memory of its own.

    It is given WASI without a single folder, address or variable; clocks and chance are replaced by those of the job.
    """

    def __init__(self, engine: Engine, file: Path) -> None:
        self._engine = engine
        self._component = Component.deserialize_file(engine, str(file))
        self._around: Surroundings
        self._linker = Linker(engine)
        self._linker.allow_shadowing = True
        self._linker.add_wasip2()
        with self._linker.root() as root:
            root.add_func("say", lambda _, level, line, text: self._around.say(level, line, text))
            for name, functions in self._replaced().items():
                with root.add_instance(f"wasi:{name}@{_WASI}") as instance:
                    _define(instance, functions)

    def run(self, job: Job, say: Callable[[Said], None]) -> Ending:
        self._around = Surroundings(job, say)
        store = Store(self._engine)
        store.set_wasi(WasiConfig())
        store.set_limits(memory_size=job.memory_bytes)
        store.set_epoch_deadline(EPOCHS)
        run = self._linker.instantiate(store, self._component).get_func(store, "run")
        if run is None:
            raise Forbidden("the engine has no entrance")
        return ending_of(run(store, job.source, facts_of(job)))

    def _replaced(self) -> dict[str, dict[str, Callable[..., Any]]]:
        return {
            "clocks/wall-clock": {"now": self._now, "resolution": lambda _: _moment(1_000)},
            "clocks/monotonic-clock": {
                "now": lambda _: self._around.passed_ns(),
                "resolution": lambda _: 1_000,
                "subscribe-instant": _cannot_wait,
                "subscribe-duration": _cannot_wait,
            },
            "random/random": {
                "get-random-bytes": lambda _, size: self._around.chance(size),
                "get-random-u64": lambda _: int.from_bytes(self._around.chance(8), "big"),
            },
            "filesystem/preopens": {"get-directories": lambda _: []},
        }

    def _now(self, _store: object) -> Record:
        return _moment(self._around.wall_ns())


def _define(instance: LinkerInstance, functions: dict[str, Callable[..., Any]]) -> None:
    for name, function in functions.items():
        instance.add_func(name, function)


def _moment(nanoseconds: int) -> Record:
    moment = Record()
    seconds, rest = divmod(nanoseconds, _NANOSECONDS)
    vars(moment).update(seconds=seconds, nanoseconds=rest)
    return moment


def _cannot_wait(_store: object, *_: object) -> NoReturn:
    raise Forbidden("code cannot sleep: use a wait node")
