"""Stops a guest that has had its processor time, however it spends it."""

import threading
import time
from typing import Final

from wasmtime import Engine

_LOOK_SECONDS: Final = 0.01
EPOCHS: Final = 2
"""A guest may run for this many; one may still pass by mistake when the last guest's time ends as it does."""


class Meter:
    """Watches the main thread's own clock, so that a busy machine takes nobody's time away."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        main = threading.main_thread().ident
        self._clock = time.pthread_getcpuclockid(main or 0)
        self._until = float("inf")
        threading.Thread(target=self._watch, daemon=True).start()

    def begin(self, seconds: float) -> None:
        self._until = time.clock_gettime(self._clock) + seconds

    def end(self) -> None:
        self._until = float("inf")

    def _watch(self) -> None:
        while True:
            time.sleep(_LOOK_SECONDS)
            if time.clock_gettime(self._clock) > self._until:
                self._engine.increment_epoch()
