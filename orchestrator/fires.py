"""What a schedule has decided: how a commit of SCHEDULES is read and made."""

from collections.abc import Sequence
from typing import Final

from msgspec import structs

from contracts.codec import decode_schedule_commit
from contracts.schedules import ScheduleCommit, ScheduleEvent, ScheduleState
from contracts.subjects import schedule as schedule_subject
from orchestrator.book import Frame, Kind
from orchestrator.firing import evolve


def _commit(
    frame: Frame, schedule: str, events: Sequence[ScheduleEvent], state: ScheduleState
) -> ScheduleCommit:
    return ScheduleCommit(
        schedule=schedule, events=tuple(events), state=state, actor="timer", **structs.asdict(frame)
    )


FIRES: Final = Kind[ScheduleState, ScheduleEvent](
    subject=schedule_subject,
    new=ScheduleState(),
    decode=decode_schedule_commit,
    evolve=lambda state, event, _at: evolve(state, event),
    commit=_commit,
    crash_before="schedule.before_append",
    crash_after="schedule.after_append",
)
