"""Mutants of the orchestrator's shell: owners, appends, answers, re-emission."""

from typing import Final

from tests.mutants.mutant import Edit, Mutant

_SERVICE: Final = "orchestrator.service"
_RECORD: Final = "orchestrator.record"
_OUTBOUND: Final = "orchestrator.outbound"

_UNFENCED: Final = """from msgspec import structs
                lying = await self._log.last([entry.subject for entry in {which}])
                placed = await self._log.append([
                    structs.replace(
                        entry, expected=lying[entry.subject].sequence if entry.subject in lying else 0
                    )
                    for entry in entries
                ])"""

NO_OCC: Final = Mutant(
    name="no optimistic concurrency",
    what="A commit goes behind whatever is last, not behind what was decided on: versions double, decisions too.",
    edits=[
        Edit(
            _RECORD,
            "                placed = await self._log.append(entries)",
            "                " + _UNFENCED.format(which="entries"),
        )
    ],
)
STALE_AGAIN: Final = Mutant(
    name="a refused decision is sent again as it is",
    what="After a conflict the old decision is appended behind the newcomer instead of being made anew.",
    edits=[
        Edit(
            _RECORD,
            "                placed = await self._log.append(entries)",
            "                placed = await self._log.append(entries)\n"
            "                if None in placed:\n"
            "                    " + _UNFENCED.format(which="entries").replace("\n", "\n    "),
        )
    ],
)
EARLY_ANSWER: Final = Mutant(
    name="answered before it is stored",
    what="Calls are answered and INBOX is acknowledged before the append: a kill between loses what was accepted.",
    edits=[
        Edit(
            _SERVICE,
            "            placed, traces = await self._record.append(",
            "            [self._answer(each, each.after) for each in proposals]\n"
            "            placed, traces = await self._record.append(",
        )
    ],
)
ACK_ON_AMBIGUOUS: Final = Mutant(
    name="acknowledged after an ambiguous failure",
    what="An append of which nobody knows counts as done: where it was not, its messages are lost.",
    edits=[
        Edit(
            _SERVICE,
            "            await self._start_over()\n            return",
            "            for proposed in proposals:\n"
            "                self._answer(proposed, proposed.after)\n"
            "            await self._start_over()\n            return",
        )
    ],
)
CONFLICT_IS_LOSS: Final = Mutant(
    name="a conflict is a loss",
    what="Messages whose commit lost the race are answered as if they had nothing to say.",
    edits=[
        Edit(
            _SERVICE,
            "        if proposed.letters or later:\n"
            "            self._tray.prepare(run_id, [*proposed.letters, *later], None, self._tasks)",
            "        from contracts.messages import Answer\n"
            "        for letter in proposed.letters:\n"
            '            letter.answer(Answer(run=run_id, result="nothing"))\n'
            "        if later:\n"
            "            self._tray.prepare(run_id, later, None, self._tasks)",
        )
    ],
    stage="told once",
)
CAUSE_IS_NO_LOOK: Final = Mutant(
    name="what comes again beside something new is no look",
    what="An outcome whose commit was never emitted is answered beside a signal, and the step behind it is not asked for.",
    edits=[
        Edit(
            _SERVICE,
            "        repeated = [each for each in told if not each[1].changed]\n",
            "        repeated = [each for each in told if isinstance(each[0].message, Look)]\n",
        ),
        Edit(
            _SERVICE,
            "        others = [each for each in told if each[1].changed]\n",
            "        others = [each for each in told if each not in repeated]\n",
        ),
    ],
    tests=[
        "tests/orchestrator/test_emitting_again.py::"
        "test_what_an_earlier_owner_never_emitted_is_emitted_also_when_its_cause_comes_again_beside_something_new"
    ],
)
REMEMBERS_AT_TAKE_OVER: Final = Mutant(
    name="remembered over a take-over",
    what="What was known of a partition's runs before somebody else owned them still counts.",
    edits=[Edit(_SERVICE, "        self._memory.forget(number)\n", "")],
    tests=[
        "tests/orchestrator/test_emitting_again.py::"
        "test_what_was_emitted_before_a_take_over_may_be_lost_with_the_servers_and_is_looked_for"
    ],
)
NOTHING_UNCONFIRMED: Final = Mutant(
    name="nothing to do, says memory",
    what="A message is answered with nothing although another owner has committed since.",
    edits=[
        Edit(
            _SERVICE,
            "        if await self._record.is_last(proposed.before):\n",
            "        if proposed.before:\n",
        )
    ],
    stage="told once",
)
EMITS_UNCONFIRMED: Final = Mutant(
    name="emitted again without a look at the log",
    what="Attempts are asked for again by a state that is not the last one.",
    edits=[
        Edit(
            _SERVICE,
            "        if not await self._record.is_last(known):\n            self._decide_anew(proposed)\n            return\n"
            "        if missing",
            "        if missing",
        )
    ],
    stage="told once",
)
NO_RE_EMISSION: Final = Mutant(
    name="nothing is emitted again",
    what="A task that got lost between the commit and TASKS is missing for ever.",
    edits=[
        Edit(
            _SERVICE,
            "        missing = await self._emission.missing(known)\n",
            "        missing = (await self._emission.missing(known))[:0]\n",
        )
    ],
)
ONLY_LOOKS_RE_EMIT: Final = Mutant(
    name="only a look emits again",
    what="After a take-over a message that changes nothing is answered without asking whether tasks are missing.",
    edits=[Edit(_SERVICE, "and (looked or not known.emitted):", "and looked:")],
    stage="unswept",
)
NO_RE_ARMING: Final = Mutant(
    name="wake-ups are not armed again",
    what="A wake-up that was lost between the commit and INBOX is missing until a sweep.",
    edits=[
        Edit(
            _OUTBOUND,
            "        await self._emission.wakes([(known, wait) for wait in outstanding(known.run).waits])\n",
            "",
        )
    ],
    stage="unswept",
)
EARLY_IS_DROPPED: Final = Mutant(
    name="a wake-up that came too early is dropped",
    what="A run whose owner's clock is behind the servers' is not woken again when its time has come.",
    edits=[
        Edit(
            "orchestrator.emission",
            "        if wait.wait in named and (due := wait.due) is not None\n",
            "        if wait.wait in named and not named and (due := wait.due) is not None\n",
        )
    ],
    stage="unswept, with clocks that jump",
)
ANSWERED_BEFORE_ARMED: Final = Mutant(
    name="answered before wake-ups are armed",
    what="A commit is answered for although nobody will wake its run.",
    edits=[
        Edit(
            _SERVICE,
            "        if waits:\n            self._tasks.create_task(self._arm_then_answer(waits, settled))\n"
            "        else:\n            self._answer_all(settled)",
            "        self._answer_all(settled)\n"
            "        if waits:\n            self._tasks.create_task(self._arm_then_answer(waits, settled))",
        )
    ],
    stage="unswept",
)
NEVER_ARMED: Final = Mutant(
    name="wake-ups are not armed",
    what="Nobody wakes a run when its wait is due: only sweeps do.",
    edits=[
        Edit(
            _SERVICE,
            "        if waits:\n            self._tasks.create_task(self._arm_then_answer(waits, settled))\n"
            "        else:\n            self._answer_all(settled)",
            "        self._answer_all(settled)",
        )
    ],
    stage="unswept",
)
OWNS_ON_AFTER_AMBIGUOUS: Final = Mutant(
    name="no new ownership after an ambiguous failure",
    what="The letters of the failed cycle are forgotten, and nobody asks for them again.",
    edits=[
        Edit(
            _SERVICE,
            "        self._tray.start_over()\n        await self._ownership.forget()",
            "        self._tray.start_over()",
        )
    ],
    stage="told once",
)
TOMBSTONE_IS_ENOUGH: Final = Mutant(
    name="a tombstone is a whole history",
    what="A run that left the log is tried again by its last commit alone.",
    edits=[
        Edit(
            "orchestrator.letters",
            "    return isinstance(message, RetryRun) or (isinstance(message, StartRun) and bool(message.reply))",
            "    return False and isinstance(message, RetryRun)",
        )
    ],
    tests=["tests/simulation/test_found.py"],
)
MALFORMED_IS_DROPPED: Final = Mutant(
    name="what nobody can read is dropped",
    what="An unreadable message is refused and kept nowhere.",
    edits=[
        Edit(
            "orchestrator.dead_letters",
            "        await self._store(dead_letter(INBOX, NOBODY, UNREADABLE), body, str(malformed))\n",
            "",
        )
    ],
)
STUMBLES_FOR_EVER: Final = Mutant(
    name="code that raises is tried for ever",
    what="A message that our code raises on is tried again and again, and its run is never parked.",
    edits=[
        Edit(
            "orchestrator.stumbles",
            "        if self._times[name] < PATIENCE:",
            "        if self._times[name] < PATIENCE * 10**9:",
        )
    ],
)
CULPRIT_IS_DROPPED: Final = Mutant(
    name="a message that our code raises on is dropped",
    what="It is neither answered nor does its run say that it is parked.",
    edits=[
        Edit(
            _SERVICE,
            "        if reason:\n            self._sources.release(run_id)\n",
            "        if reason:\n            self._sources.release(run_id)\n"
            "            from contracts.messages import Answer\n"
            "            for letter in letters:\n"
            '                letter.answer(Answer(run=run_id, result="nothing"))\n'
            "            return None\n",
        )
    ],
)
NOT_CAUGHT_UP: Final = Mutant(
    name="emitted again before INBOX was read",
    what="An attempt is asked for again although its outcome lies in INBOX.",
    edits=[
        Edit(
            "orchestrator.emission",
            "        if missing:\n            await self._ownership.caught_up(partition(known.run.id))\n",
            "",
        )
    ],
    stage="a slow inbox",
)
CAUGHT_UP_TOO_EARLY: Final = Mutant(
    name="INBOX is read before TASKS is asked",
    what="An attempt whose outcome came into INBOX between the two looks is asked for again.",
    edits=[
        Edit(
            "orchestrator.emission",
            "        waiting = await self._tasks.waiting(list(subjects))\n",
            "        await self._ownership.caught_up(partition(known.run.id))\n"
            "        waiting = await self._tasks.waiting(list(subjects))\n",
        ),
        Edit(
            "orchestrator.emission",
            "        if missing:\n            await self._ownership.caught_up(partition(known.run.id))\n",
            "",
        ),
    ],
    stage="a slow inbox",
)
EMITS_UNDECIDED: Final = Mutant(
    name="emitted again before what was heard is decided",
    what="An attempt is asked for again while the message that ends it waits to be stored.",
    edits=[
        Edit(_SERVICE, "        if missing and self._is_undecided(known.run.id):\n", "        if False:\n")
    ],
    stage="a slow inbox",
)
SAID_TWICE_ANSWERED_ONCE: Final = Mutant(
    name="what a bundle says twice is answered once",
    what="A bundle that says the same twice of a run that is being read is never done, and comes again.",
    edits=[
        Edit(
            "orchestrator.letters",
            "        is_of_another = other.envelope is not self.envelope and not other.direct\n",
            "        is_of_another = not other.direct\n",
        )
    ],
    tests=["tests/orchestrator/test_service.py"],
)
TASKS_NOT_ASKED: Final = Mutant(
    name="emitted again whoever holds it",
    what="An attempt is asked for again while an executor has it: its next task lies there when that one is done.",
    edits=[
        Edit(
            "orchestrator.emission",
            "        waiting = await self._tasks.waiting(list(subjects))\n",
            "        waiting = set[str]()\n",
        )
    ],
    tests=[
        "tests/orchestrator/test_emitting_again.py::"
        "test_an_attempt_that_an_executor_holds_is_not_asked_for_again_though_it_ends_at_that_moment"
    ],
)
LET_GO_AT_ONCE: Final = Mutant(
    name="attempts are let go while their run goes on",
    what="Every commit tells the executors to end the run's attempts, also where nobody wants it to stop.",
    edits=[
        Edit(
            _OUTBOUND,
            "        if not known.run.acts:\n",
            "        if True:\n",
        )
    ],
)
LET_GO_BY_A_LOOK: Final = Mutant(
    name="a look ends attempts",
    what="Whoever looks at a run that goes on has its attempts end.",
    edits=[Edit(_OUTBOUND, '        if known.run.phase == "stopping":\n', "        if True:\n")],
)
UNKNOWN_EVENT_IS_SKIPPED: Final = Mutant(
    name="an event from a newer release is skipped",
    what="A history is read as if the event that this release does not know were not there.",
    edits=[
        Edit(
            "orchestrator.memory",
            "            known = _place(known, stored, body_hash, unknown.needs_release)\n",
            "            known = _place(known, stored, body_hash)\n",
        )
    ],
    tests=[
        "tests/orchestrator/test_service.py::test_an_event_from_a_newer_release_parks_the_run_and_keeps_its_messages"
    ],
)
TOMBSTONE_UNNOTICED: Final = Mutant(
    name="a tombstone is not noticed",
    what="A history whose beginning has left the log is taken for whole.",
    edits=[
        Edit(
            "orchestrator.memory",
            "archived=seam is None, events=before)",
            "archived=False, events=before)",
        )
    ],
    stage="early retirement",
)
CHAIN_OVER_RE_ENCODED: Final = Mutant(
    name="the chain runs over re-encoded bytes",
    what="A commit names the hash of what the one before means, not of the bytes that are stored.",
    edits=[
        Edit(
            "orchestrator.memory",
            "        body_hash = digest(stored.body)\n",
            '        body_hash = digest(__import__("msgspec").json.encode(__import__("msgspec").json.decode(stored.body)))\n',
        )
    ],
    stage="strange values",
)
TIME_GOES_BACK: Final = Mutant(
    name="time goes back",
    what="A commit has the time of the machine, although the one before was later.",
    edits=[
        Edit("orchestrator.judge", "    return max(now, known.at) if known.at else now", "    return now")
    ],
)
PLAN_UNREADABLE_KILLS: Final = Mutant(
    name="a start that is parked is lost",
    what="A run whose first message our code raises on is parked without having begun.",
    edits=[
        Edit(
            "orchestrator.judge",
            "            events += facts if not isinstance(facts, Refusal) else ()\n",
            "",
        )
    ],
)
PLANS_NOT_HELD: Final = Mutant(
    name="what a decision needs may leave before it is made",
    what="A decision that needs more values than there is room for is never made.",
    edits=[
        Edit(
            "orchestrator.sources",
            "        held = self._held[run] if run else set[str]()\n",
            "        held = set[str]()\n",
        )
    ],
    stage="large answers",
)
WRONG_RECEIPT: Final = Mutant(
    name="a duplicate is told its own receipt",
    what="Whoever sends again is told of a receipt under which nothing happened.",
    edits=[
        Edit(
            "orchestrator.answers",
            "        receipt=known.receipt,\n",
            '        receipt=message.receipt if isinstance(message, StartRun) else "",\n',
        )
    ],
)
ANSWERS_OF_OTHERS: Final = Mutant(
    name="a bundle is answered by its first message",
    what="INBOX is acknowledged when the first message of a bundle is done.",
    edits=[
        Edit(
            "orchestrator.letters",
            "        if self._left == 0:\n            self.arrival.answer(encode(self._answers) if",
            "        if self._left == 0 or not self.arrival.direct:\n"
            "            self.arrival.answer(encode(self._answers) if",
        )
    ],
    stage="together",
)
MUTANTS: Final = (
    NO_OCC,
    STALE_AGAIN,
    EARLY_ANSWER,
    ACK_ON_AMBIGUOUS,
    CONFLICT_IS_LOSS,
    NOTHING_UNCONFIRMED,
    EMITS_UNCONFIRMED,
    NO_RE_EMISSION,
    ONLY_LOOKS_RE_EMIT,
    NO_RE_ARMING,
    ANSWERED_BEFORE_ARMED,
    EARLY_IS_DROPPED,
    NEVER_ARMED,
    OWNS_ON_AFTER_AMBIGUOUS,
    TOMBSTONE_IS_ENOUGH,
    MALFORMED_IS_DROPPED,
    STUMBLES_FOR_EVER,
    CULPRIT_IS_DROPPED,
    CAUSE_IS_NO_LOOK,
    REMEMBERS_AT_TAKE_OVER,
    NOT_CAUGHT_UP,
    CAUGHT_UP_TOO_EARLY,
    EMITS_UNDECIDED,
    SAID_TWICE_ANSWERED_ONCE,
    TASKS_NOT_ASKED,
    LET_GO_AT_ONCE,
    LET_GO_BY_A_LOOK,
    TOMBSTONE_UNNOTICED,
    CHAIN_OVER_RE_ENCODED,
    UNKNOWN_EVENT_IS_SKIPPED,
    TIME_GOES_BACK,
    PLAN_UNREADABLE_KILLS,
    PLANS_NOT_HELD,
    WRONG_RECEIPT,
    ANSWERS_OF_OTHERS,
)
