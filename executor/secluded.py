"""Work in a process that may be killed, as a node tells it: what took too much is a fault of the field that it came from."""

from chassis.secluded import Broken, TooMuch
from chassis.secluded import Secluded as Process
from chassis.solitude import SECONDS
from executor.errors import Crashed, TooLarge


class Secluded:
    """Runs `python -m module`."""

    def __init__(self, module: str, *, seconds: float = SECONDS, most: int) -> None:
        """`most`: bytes of an answer."""
        self._process = Process(module, seconds=seconds, most=most)

    async def answer(self, question: bytes, *, field: str) -> bytes:
        """Raises `TooLarge` for `field` when it takes more than it may. Safe to cancel: the process is killed then."""
        try:
            return await self._process.answer(question)
        except TooMuch as error:
            raise TooLarge(str(error), field=field) from None
        except Broken:
            raise Crashed from None
