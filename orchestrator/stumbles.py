"""How often our own code raised on one message, and when nobody tries it again."""

from collections import defaultdict
from typing import Final

import structlog

from chassis.ids import digest
from contracts.codec import encode
from orchestrator.judge import Stumbled

log = structlog.get_logger()

PATIENCE: Final = 5
"""How often code may raise on one message before the message is a dead letter and its run is parked."""


class Stumbles:
    """Counted by what was said: a message that comes again is the same one."""

    def __init__(self) -> None:
        self._times: dict[str, int] = defaultdict(int)

    def may_try_again(self, run_id: str, stumbled: Stumbled) -> bool:
        """Count this one. Whoever gives up begins anew."""
        name = digest(encode(stumbled.letter.message))
        self._times[name] += 1
        log.error("message.stumbled", run=run_id, times=self._times[name], exc_info=stumbled.__cause__)
        if self._times[name] < PATIENCE:
            return True
        del self._times[name]
        return False
