"""What one evaluation of a configuration may still take, all its fields together."""

from chassis.expressions.bounds import MEMORY, NANOSECONDS, Cost
from chassis.expressions.faults import Failed
from contracts.limits import CEL_VALUE_BYTES


class Room:
    """How much of a result may still come: counts its encoded bytes, escapes aside."""

    __slots__ = ("left",)

    def __init__(self, left: int = CEL_VALUE_BYTES) -> None:
        self.left = left

    def take(self, size: int) -> None:
        self.left -= size
        if self.left < 0:
            raise Failed(f"the result is larger than {CEL_VALUE_BYTES // 1024} KiB")


class Budget:
    """Time and memory on the spot, and room for what comes out."""

    __slots__ = ("_memory", "_nanoseconds", "room")

    def __init__(self) -> None:
        self._nanoseconds = NANOSECONDS
        self._memory: float = MEMORY
        self.room = Room()

    def spend(self, cost: Cost) -> bool:
        """Take a bound off; False, and nothing is taken, when it does not fit any more."""
        if cost.nanoseconds > self._nanoseconds or cost.memory > self._memory:
            return False
        self._nanoseconds -= cost.nanoseconds
        self._memory -= cost.memory
        return True
