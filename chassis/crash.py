"""Named places where a test has this very process die, as a power cut would end it. Without its variable: nothing.

`AUTOMATEOS_CRASH=append.after_send` ends the process with SIGKILL when it first gets there; `append.after_send:7` at the
seventh time. The variable is taken out of the environment, so that no child of the process has it too.
"""

import os
import signal
from itertools import count
from typing import Final

POINTS: Final = (
    "append.before_send",
    "append.after_send",
    "append.after_ack",
    "cycle.before_emit",
    "cycle.after_emit",
    "accept.before_dispatch",
    "accept.after_dispatch",
    "effect.after_claim",
    "effect.after_call",
    "outcome.after_told",
    "schedule.before_append",
    "schedule.after_append",
    "schedule.before_start",
    "schedule.after_start",
    "schedule.after_wake",
    "gate.before_append",
    "gate.after_append",
    "gate.after_say",
    "project.after_batch",
    "follow.before_start",
    "follow.after_start",
    "follow.before_position",
    "archive.after_purge",
)
"""Every place, in the order in which a run comes by."""

_POINT, _, _TIMES = os.environ.pop("AUTOMATEOS_CRASH", "").partition(":")  # noqa: TID251  # Before settings are read.
_AT: Final = int(_TIMES or "1")
_TIMES_HERE: Final = count(1)


def crash(point: str) -> None:
    """Die here, if this is the place and the time."""
    if point == _POINT and next(_TIMES_HERE) >= _AT:
        os.write(2, f"dies at {point}, as it was told to\n".encode())
        os.kill(os.getpid(), signal.SIGKILL)
