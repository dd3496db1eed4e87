"""Mutants of the state machine of runs: what counts as news, and what follows from it."""

from typing import Final

from tests.mutants.mutant import Edit, Mutant

_ACCEPTANCE: Final = "orchestrator.acceptance"
_COMMANDS: Final = "orchestrator.commands"
_ATTEMPTS: Final = "orchestrator.attempts"
_DECISIONS: Final = "orchestrator.decisions"
_TURN_OF: Final = "orchestrator.turn"
_EVOLUTION: Final = "orchestrator.evolution"

RESULT_TWICE: Final = Mutant(
    name="no check for a result that is known",
    what="An outcome of an attempt that is closed is recorded again.",
    edits=[
        Edit(
            _ACCEPTANCE,
            "    return _under_way(run, step, attempt) or run.doubts.get(step) == attempt",
            "    return True",
        )
    ],
)
TIMER_TWICE: Final = Mutant(
    name="a timer that fires twice is believed twice",
    what="A wake-up of a wait that is closed ends it again.",
    edits=[
        Edit(
            _ACCEPTANCE,
            "    if run.parked is not None or wait is None or wait.due is None or at < wait.due - EARLY:\n"
            "        return ()\n    return (*_too_late(run, at), WaitEnded(wait=wait.wait))",
            "    if run.parked is not None or (wait is not None and (wait.due is None or at < wait.due - EARLY)):\n"
            "        return ()\n    return (*_too_late(run, at), WaitEnded(wait=message.wait))",
        ),
        Edit(
            "orchestrator.consider",
            "    return not isinstance(fact, WaitEnded) or fact.wait in run.waits",
            "    return True",
        ),
    ],
)
ENDED_WITH_ITS_RUN: Final = Mutant(
    name="a wait that ended with its run is ended again",
    what="Of two waits that are over at once the first ends the run, and the second is told to it all the same.",
    edits=[
        Edit(
            "orchestrator.consider",
            "    return not isinstance(fact, WaitEnded) or fact.wait in run.waits",
            "    return True",
        )
    ],
    tests=["tests/mutants/test_waits_over_at_once.py"],
)
TIMER_EARLY: Final = Mutant(
    name="a wake-up before its time is believed",
    what="A wait ends whenever somebody says so, not when it is due.",
    edits=[Edit(_ACCEPTANCE, "wait is None or wait.due is None or at < wait.due - EARLY:", "wait is None:")],
    stage="a closer look",
)
CANCEL_IGNORED: Final = Mutant(
    name="a result that comes first drowns a cancellation",
    what="A run that shall stop goes on when an attempt ends well.",
    edits=[
        Edit(
            _TURN_OF,
            "    return run.cancel is not None or run.overdue or run.failed is not None",
            '    return (run.cancel is not None and run.phase == "stopping") or run.overdue or run.failed is not None',
        )
    ],
    stage="a closer look",
)
STOPPING_GOES_ON: Final = Mutant(
    name="a run that stops begins new steps",
    what="The outcome of an attempt under way leads on although the run was cancelled.",
    edits=[
        Edit(
            _TURN_OF,
            '        return self.run.phase == "stopping" or must_stop(self.run)',
            "        return False",
        ),
        Edit(
            _DECISIONS,
            '    if turn.run.phase == "stopping":\n        ends = wind_down',
            '    if turn.run.phase == "stopping" and type(fact).__name__ != "StepReported":\n'
            "        ends = wind_down",
        ),
        Edit(
            _DECISIONS,
            "    if must_stop(turn.run):\n        ends = stop(",
            '    if must_stop(turn.run) and type(fact).__name__ != "StepReported":\n        ends = stop(',
        ),
    ],
    stage="a closer look",
)
CANCEL_OF_ANOTHER_OPENING: Final = Mutant(
    name="a cancellation counts for every opening",
    what="A wish to stop that comes again stops a run that was tried again since.",
    edits=[
        Edit(
            _COMMANDS,
            "    if message.opening not in (0, run.opening):\n        return ()\n"
            "    refused = _unknown_or_ended(run)",
            "    refused = _unknown_or_ended(run)",
        )
    ],
    stage="a closer look",
)
RETRY_OF_ANOTHER_OPENING: Final = Mutant(
    name="a retry counts for every opening",
    what="A wish to try again that comes again reopens a run that has ended once more.",
    edits=[
        Edit(
            _COMMANDS,
            "    if message.opening not in (0, run.opening):\n        return ()\n"
            '    if run.phase not in ("failed", "cancelled")',
            '    if run.phase not in ("failed", "cancelled")',
        )
    ],
)
DOUBT_OF_ANOTHER_ATTEMPT: Final = Mutant(
    name="what is said of a doubt counts for every attempt",
    what="A decision about one attempt that comes again decides about the next one.",
    edits=[
        Edit(
            _COMMANDS,
            "    if message.attempt not in (0, attempt):\n        return ()\n",
            "",
        )
    ],
    stage="in doubt",
)
STARTED_TWICE: Final = Mutant(
    name="a start is believed twice",
    what="A second start of a run that is there is recorded.",
    edits=[Edit(_ACCEPTANCE, '    if run.phase != "queued":\n        return ()\n    timeout', "    timeout")],
)
FRESH_KEY: Final = Mutant(
    name="a fresh key for every attempt",
    what="The world cannot tell a repeated call from a new one.",
    edits=[
        Edit(
            _ATTEMPTS,
            '        key=f"{run.id}/{path}",',
            '        key=f"{run.id}/{path}/{run.step(path).attempt + 1}",',
        )
    ],
)
JITTER_BY_CHANCE: Final = Mutant(
    name="the jitter of retries is chance",
    what="The same history gives another decision when it is decided anew.",
    edits=[
        Edit(
            "orchestrator.retries",
            '    return int.from_bytes(seed[:8], "big") / _SPREAD',
            '    return int.from_bytes(seed[:8], "big") / _SPREAD * __import__("random").random()',
        )
    ],
)
RETRY_FOR_EVER: Final = Mutant(
    name="retries without an end",
    what="A step that keeps failing is tried more often than its policy says.",
    edits=[
        Edit(
            "orchestrator.retries",
            "    if not error.retryable or tries >= retry.attempts:",
            "    if not error.retryable:",
        )
    ],
    tests=["tests/orchestrator/test_retries.py"],
)
DOUBT_FORGOTTEN_BY_RETRY: Final = Mutant(
    name="a retry forgets that the world may have been touched",
    what="A step whose cancelled attempt may have acted is attempted again without asking.",
    edits=[
        Edit(
            _EVOLUTION,
            '        elif step.repeat == "no" and step.effect in ("possible", "done"):',
            '        elif step.repeat == "no" and step.effect == "none":',
        )
    ],
)
NUMBERS_BEGIN_ANEW: Final = Mutant(
    name="a retry counts attempts from one",
    what="Two attempts share one number: outcomes and claims of the first are taken for the second's.",
    edits=[
        Edit(
            _EVOLUTION,
            "            steps[path] = Step(attempt=step.attempt, first=step.attempt + 1, repeat=step.repeat)",
            "            steps[path] = Step(repeat=step.repeat)",
        )
    ],
)
CANCELLED_WITHOUT_A_TRACE: Final = Mutant(
    name="an attempt that never answered is cancelled as if it had done nothing",
    what="After the grace nobody knows what an attempt did, and the history says nothing of it.",
    edits=[
        Edit(
            _EVOLUTION,
            '        detail = "No executor has said how the attempt ended."\n'
            '        return moved(run, path, event, effect="possible", detail=detail)',
            '        detail = "No executor has said how the attempt ended."\n'
            '        return moved(run, path, event, effect="none", detail=detail)',
        )
    ],
)
NO_DEADLINE: Final = Mutant(
    name="a run's deadline passes unnoticed",
    what="A look at a run that is overdue says nothing.",
    edits=[
        Edit(
            _ACCEPTANCE,
            '    late = run.phase == "running" and not run.overdue',
            '    late = run.phase == "queued" and not run.overdue',
        )
    ],
    stage="in a hurry",
)
NO_OVERDUE_WAITS: Final = Mutant(
    name="a look ends no wait that is overdue",
    what="A wait whose wake-up was lost lasts for ever.",
    edits=[
        Edit(
            _ACCEPTANCE,
            "    due = sorted((wait.due, wait.wait) for wait in run.waits.values() if wait.due and wait.due <= at)",
            "    due = sorted((wait.due, wait.wait) for wait in run.waits.values() if wait.due and wait.due < at < wait.due)",
        )
    ],
)
PARKED_GOES_ON: Final = Mutant(
    name="a parked run goes on",
    what="What is recorded of a run that nobody can go on with is decided on.",
    edits=[
        Edit(
            _DECISIONS,
            "    if run.parked is not None or not run.active:",
            "    if not run.active:",
        )
    ],
)
NO_GRACE: Final = Mutant(
    name="a run that stops does not wait for its attempts",
    what="The run ends while an attempt is under way, and what it did is not said.",
    edits=[
        Edit(
            "orchestrator.stopping",
            "    if not run.attempts and not run.children:\n        return closed",
            "    if run.attempts or not run.attempts:\n        return closed",
        )
    ],
)

MUTANTS: Final = (
    RESULT_TWICE,
    TIMER_TWICE,
    ENDED_WITH_ITS_RUN,
    TIMER_EARLY,
    CANCEL_IGNORED,
    STOPPING_GOES_ON,
    CANCEL_OF_ANOTHER_OPENING,
    RETRY_OF_ANOTHER_OPENING,
    DOUBT_OF_ANOTHER_ATTEMPT,
    STARTED_TWICE,
    FRESH_KEY,
    JITTER_BY_CHANCE,
    RETRY_FOR_EVER,
    DOUBT_FORGOTTEN_BY_RETRY,
    NUMBERS_BEGIN_ANEW,
    CANCELLED_WITHOUT_A_TRACE,
    NO_DEADLINE,
    PARKED_GOES_ON,
    NO_GRACE,
)
