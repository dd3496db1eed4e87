"""Mutants of what the clock starts: what is decided when, what is asked for again, and how the wall hangs together with time."""

from typing import Final

from tests.mutants.mutant import Edit, Mutant

_BOOK: Final = "orchestrator.book"
_FIRES: Final = "orchestrator.fires"
_FIRING: Final = "orchestrator.firing"
_SCHEDULES: Final = "orchestrator.schedules"
_SLOTS: Final = "chassis.slots"
_STAGE: Final = "by the clock"
_DECIDED: Final = "tests/orchestrator/test_firing.py"
_PLANNED: Final = "tests/chassis/test_slots.py"

DECIDED_AGAIN: Final = Mutant(
    name="schedule: what was fired is decided again",
    what="A planned time that was fired does not count as decided.",
    edits=[
        Edit(
            _FIRING,
            "state, decided=_later(state, event.planned), pending=(*state.pending, event)",
            "state, pending=(*state.pending, event)",
        )
    ],
    stage=_STAGE,
)
UNTOLD: Final = Mutant(
    name="schedule: what was missed is not told",
    what="Planned times that are over are passed by without a word.",
    edits=[Edit(_FIRING, "    return [told, *(", "    return [*(")],
    stage=_STAGE,
)
NAMED_BY_NOW: Final = Mutant(
    name="schedule: a run is named by the moment of the decision",
    what="Two owners who decide about one planned time start two runs.",
    edits=[
        Edit(
            _FIRING, "        run=run_of(org, schedule, planned),", "        run=run_of(org, schedule, now),"
        )
    ],
    stage=_STAGE,
)
PENDING_FORGOTTEN: Final = Mutant(
    name="schedule: what was decided is not asked for again",
    what="An owner that dies between the decision and the start leaves a fire without its run.",
    edits=[
        Edit(
            _FIRES,
            "    decode=decode_schedule_commit,\n",
            "    decode=lambda body: structs.replace(\n"
            "        commit := decode_schedule_commit(body), state=structs.replace(commit.state, pending=())\n"
            "    ),\n",
        )
    ],
    stage=_STAGE,
)
UNFENCED: Final = Mutant(
    name="schedule: appended behind whatever is last",
    what="What another owner has decided meanwhile is decided a second time.",
    edits=[
        Edit(
            _BOOK,
            "        proposal = Proposal(subject, body, known.sequence, headers_of(commit))",
            "        newest = (await self.load(org, of)).sequence\n"
            "        proposal = Proposal(subject, body, newest, headers_of(commit))",
        )
    ],
    stage=_STAGE,
)
NEVER_ASKED: Final = Mutant(
    name="schedule: a start counts as done before it is",
    what="Runs are told to have started that nobody was asked for.",
    edits=[
        Edit(
            _SCHEDULES,
            "            answer = await self._sender.send(\n"
            "                _start_of(org, schedule, fire, _given(fire, timetable, cursor), says)\n"
            "            )\n",
            '            answer = Answer(run=fire.run, result="accepted")\n',
        )
    ],
    stage=_STAGE,
)
ONE_STRETCH: Final = Mutant(
    name="schedule: an edit forgets what was due before it",
    what="Only the newest stretch of the timetable is kept.",
    edits=[
        Edit(
            "orchestrator.timetable",
            "stretches=(*timetable.stretches, Stretch(since, timetable.active))",
            "stretches=(Stretch(since, timetable.active),)",
        )
    ],
    tests=[_DECIDED],
)
BOUNDLESS: Final = Mutant(
    name="schedule: one decision starts whatever is due",
    what="After a long stop of a dense schedule there is no bound for what is started at once.",
    edits=[
        Edit(
            _FIRING,
            "found = slots.between(max(after, now - late), until, FIRES_AT_ONCE)",
            "found = slots.between(max(after, now - late), until, 10**6)",
        )
    ],
    tests=[_DECIDED],
)
TWICE_IN_AUTUMN: Final = Mutant(
    name="schedule: a named time fires both times that the wall shows it",
    what="At the change in autumn 02:30 comes twice.",
    edits=[Edit(_SLOTS, "if self._fixed and slot.astimezone(self._zone).fold:", "if False:")],
    tests=[_PLANNED],
)
LOST_IN_SPRING: Final = Mutant(
    name="schedule: a time that the change leaves out is lost",
    what="At the change in spring 02:30 does not come at all.",
    edits=[
        Edit(
            _SLOTS,
            "        start = min(there, shown) if self._fixed and left_out > timedelta() else shown\n",
            "        start = shown\n",
        )
    ],
    tests=[_PLANNED],
)

MUTANTS: Final = (
    DECIDED_AGAIN,
    UNTOLD,
    NAMED_BY_NOW,
    PENDING_FORGOTTEN,
    UNFENCED,
    NEVER_ASKED,
    ONE_STRETCH,
    BOUNDLESS,
    TWICE_IN_AUTUMN,
    LOST_IN_SPRING,
)
