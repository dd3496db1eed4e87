"""Mutants of what starts runs for events: when the position goes on, what names a run, what is told, and where a loop ends."""

from typing import Final

from tests.mutants.mutant import Edit, Mutant

_FOLLOWING: Final = "projections.following"
_OCCURRENCES: Final = "projections.occurrences"
_SUBSCRIPTIONS: Final = "projections.subscriptions"
_STAGE: Final = "by events"
_POLLS: Final = "by polls"
_TOLD: Final = "tests/projections/test_following.py"

PASSED_BY: Final = Mutant(
    name="events: passed by before their runs are asked for",
    what="The position goes on first: who dies behind it leaves events without their runs.",
    edits=[
        Edit(
            _FOLLOWING,
            "        happened = [each for stored in batch for each in self._happened(stored)]\n",
            "        happened = [each for stored in batch for each in self._happened(stored)]\n"
            "        await self._places.advance(step)\n",
        ),
        Edit(
            _FOLLOWING,
            '        crash("follow.before_position")\n        await self._places.advance(step)\n',
            "",
        ),
    ],
    stage=_STAGE,
)
NAMED_BY_VERSION: Final = Mutant(
    name="events: a run is named by the version that it follows",
    what="An event that is read again behind a change of its trigger starts a second run.",
    edits=[
        Edit(
            _OCCURRENCES,
            "    return run_id(subscription.org, subscription.trigger, key_of(occurrence))",
            "    return run_id(subscription.org, subscription.trigger, f'{key_of(occurrence)}:{subscription.version}')",
        )
    ],
    stage=_STAGE,
)
ONE_FOR_A_COMMIT: Final = Mutant(
    name="events: one run for all events of a commit",
    what="Two events that were recorded together have one name, so the second has no run.",
    edits=[
        Edit(
            _OCCURRENCES,
            "id=event_id(aggregate, id_, commit.version, place)",
            "id=event_id(aggregate, id_, commit.version, 0)",
        )
    ],
    tests=[f"{_TOLD}::test_each_event_of_a_commit_and_each_trigger_has_its_own_run"],
)
SWALLOWED: Final = Mutant(
    name="events: a filter that fails is not told",
    what="A filter that says neither yes nor no starts nothing, and nobody hears of it.",
    edits=[Edit(_FOLLOWING, '            return f"the filter: {failed}"', '            return ""')],
    stage=_STAGE,
)
ROUND_AND_ROUND: Final = Mutant(
    name="events: a workflow may start itself for ever",
    what="Only the bound on depth is left: two triggers start tens of thousands of runs.",
    edits=[Edit(_FOLLOWING, " if too_deep(cause) or goes_round(chain) else ", " if too_deep(cause) else ")],
    tests=[f"{_TOLD}::test_a_workflow_that_starts_itself_too_often_is_stopped_and_the_loop_is_named"],
)
AS_IT_IS_NOW: Final = Mutant(
    name="events: what happened before an edit is read by it",
    what="Only the newest stretch of a trigger is kept.",
    edits=[
        Edit(
            _SUBSCRIPTIONS,
            "stretches=(*after.stretches, Stretch(since, after.active))",
            "stretches=(Stretch(since, after.active),)",
        )
    ],
    tests=[f"{_TOLD}::test_what_happened_before_an_edit_is_read_as_it_was_followed_then"],
)
NOT_YET_KNOWN: Final = Mutant(
    name="events: matched before the triggers are read",
    what="Whoever was told that a trigger exists cannot be sure that what comes next is seen by it.",
    edits=[
        Edit(
            _FOLLOWING,
            "        await self._means.subscriptions.up_to_date()\n        happened",
            "        happened",
        )
    ],
    tests=[f"{_TOLD}::test_whoever_made_a_trigger_can_be_sure_that_what_comes_next_is_seen_by_it"],
)
FIRST_WORD: Final = Mutant(
    name="events: a run begins with the first word of its history",
    what="What follows runs passes by those that began parked, because that is said first.",
    edits=[
        Edit(
            "projections.origins",
            "    start = beginning(commit.events)\n",
            "    start = beginning(commit.events[:1])\n",
        )
    ],
    stage=_STAGE,
)

CURSOR_FIRST: Final = Mutant(
    name="polls: the cursor moves before the items are asked for",
    what="The next poll looks behind what has not started yet.",
    edits=[
        Edit(
            "projections.intake",
            "        refused: list[str] = []\n",
            "        refused: list[str] = []\n        await self._move(subscription, origin, intake.cursor)\n",
        )
    ],
    stage=_POLLS,
)
ITEM_OF_A_LOOK: Final = Mutant(
    name="polls: an item is named by the look that found it",
    what="What the next look sees again starts a second run.",
    edits=[
        Edit(
            _OCCURRENCES,
            '    key = f"item:{found.key}"\n',
            '    key = f"item:{found.key}:{cause.id}"\n',
        )
    ],
    stage=_POLLS,
)
NOT_ALL_OF_THEM: Final = Mutant(
    name="polls: only the first of what was found is started",
    what="The cursor goes past what has no run.",
    edits=[
        Edit(
            "projections.intake",
            "await side_by_side(ask(found) for found in {each.key: each for each in intake.items}.values())",
            "await side_by_side(ask(found) for found in intake.items[:1])",
        )
    ],
    stage=_POLLS,
)
NOT_AN_END: Final = Mutant(
    name="polls: what a look has found is dropped when somebody is away",
    what="An item that nobody took is told to be refused, and the cursor goes on.",
    edits=[
        Edit(
            "projections.intake",
            "            answer = await self._sender.send(await self._start(subscription, occurrence, found, cause))\n",
            "            try:\n"
            "                answer = await self._sender.send(await self._start(subscription, occurrence, found, cause))\n"
            "            except Away:\n"
            "                return\n",
        )
    ],
    stage=_POLLS,
)
CURSOR_BACK: Final = Mutant(
    name="polls: the cursor moves wherever the last poll has ended",
    what="A poll that ends behind a later one moves the cursor back.",
    edits=[
        Edit(
            "projections.intake",
            "            if before is not None and _cursor(before.body).planned >= moved.planned:\n                return\n",
            "",
        )
    ],
    tests=[
        "tests/projections/test_intake.py::test_a_poll_that_ends_behind_a_later_one_does_not_move_the_cursor_back"
    ],
)

MUTANTS: Final = (
    PASSED_BY,
    NAMED_BY_VERSION,
    ONE_FOR_A_COMMIT,
    SWALLOWED,
    ROUND_AND_ROUND,
    AS_IT_IS_NOW,
    NOT_YET_KNOWN,
    FIRST_WORD,
    CURSOR_FIRST,
    CURSOR_BACK,
    ITEM_OF_A_LOOK,
    NOT_ALL_OF_THEM,
    NOT_AN_END,
)
