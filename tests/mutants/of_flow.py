"""Mutants of turns and pauses: who is asked for when, and what is held."""

from typing import Final

from tests.mutants.mutant import Edit, Mutant

_EMISSION: Final = "orchestrator.emission"
_HOLDING: Final = "orchestrator.holding"
_LANES: Final = "orchestrator.lanes"
_TURNS: Final = "tests/orchestrator/test_lanes.py"
_SHELL: Final = "tests/orchestrator/test_holding.py"

UNFAIR: Final = Mutant(
    name="the org that was first stays first",
    what="Turns do not go round: the crowd of one org is worked off before another org's first attempt.",
    edits=[
        Edit(
            _LANES,
            "                del pool.turns[lane]\n                ticket = lane.first()\n"
            "                if lane.waiting:\n                    pool.turns[lane] = None\n",
            "                ticket = lane.first()\n"
            "                if not lane.waiting:\n                    del pool.turns[lane]\n",
        )
    ],
    tests=[_TURNS],
)
NO_SHARE: Final = Mutant(
    name="an org with nothing out waits behind a crowd",
    what="A window that others have filled is full for everybody.",
    edits=[Edit(_LANES, "(lane.pool.has_room or lane.out < lane.pool.share)", "lane.pool.has_room")],
    tests=[_TURNS],
)
NO_WINDOW: Final = Mutant(
    name="everything is asked for at once",
    what="Whatever is scheduled lies in TASKS, in the order in which it came.",
    edits=[Edit(_LANES, "        return self.out < self.window", "        return True")],
    tests=[_TURNS],
)
RUDE: Final = Mutant(
    name="who comes last goes first",
    what="A newcomer passes those of its org that wait.",
    edits=[Edit(_LANES, "        return not lane.waiting and (", "        return (")],
    tests=[_TURNS],
)
UNRANKED: Final = Mutant(
    name="priorities count for nothing",
    what="Inside an org only age counts.",
    edits=[
        Edit(
            _LANES,
            "        return (self.wanted.rank, self.order) < (other.wanted.rank, other.order)",
            "        return self.order < other.order",
        )
    ],
    tests=[_TURNS],
)
NEVER_FREED: Final = Mutant(
    name="what has ended keeps its place",
    what="Outcomes make no room: what is held is never asked for.",
    edits=[
        Edit(
            _EMISSION,
            "        if before.attempts:\n            self.lanes.keep_only(",
            "        if not before:\n            self.lanes.keep_only(",
        ),
        Edit(
            _EMISSION,
            '        """A history was read: others may have ended what we have asked for."""\n'
            "        self.lanes.keep_only(known.run.id, _keys(known.run), self._clock.seconds())",
            '        """A history was read: others may have ended what we have asked for."""',
        ),
    ],
    tests=[_SHELL],
)
NEVER_ASKED: Final = Mutant(
    name="what is held stays held",
    what="Nobody looks whose turn it is.",
    edits=[
        Edit(_HOLDING, "        while self.lanes.has_turns and not", "        while not self.lanes and not")
    ],
)
UNREAD: Final = Mutant(
    name="what was held is sent without a look at the log",
    what="What another owner decided meanwhile is not known to whoever sends.",
    edits=[Edit(_HOLDING, " and stored.sequence == known.sequence", "")],
    tests=[_SHELL],
)
SENT_TO_THE_STOPPED: Final = Mutant(
    name="a run that stops begins what was held",
    what="An attempt is asked for although its run was cancelled.",
    edits=[
        Edit(_HOLDING, "known is None or not known.run.acts", "known is None"),
        Edit(_HOLDING, "            elif ticket.out:\n", "            else:\n"),
        Edit(
            _EMISSION,
            "        if before.attempts:\n            self.lanes.keep_only(",
            "        if before.attempts and after.active:\n            self.lanes.keep_only(",
        ),
    ],
    tests=[_SHELL],
)
LOST_ON_THE_WAY: Final = Mutant(
    name="what could not be sent is forgotten",
    what="While the log is away, turns are lost: nobody holds the attempt, and nobody was asked.",
    edits=[
        Edit(
            _HOLDING,
            "                        self.lanes.put_back(ticket)\n",
            "                        pass\n",
        )
    ],
    tests=[_SHELL],
)
SILENT_HEIR: Final = Mutant(
    name="an owner that hands over says nothing of what it held",
    what="Held runs wait for the sweeper at every restart.",
    edits=[Edit(_HOLDING, "        await self._hand_on()\n", "        return\n")],
    tests=[_SHELL],
)
PAUSE_UNHEARD: Final = Mutant(
    name="a pause holds nothing",
    what="What is paused is asked for.",
    edits=[Edit(_LANES, '            or ("workflow", workflow) in pauses\n', "")],
    tests=[_TURNS],
)
PAUSE_OF_ALL: Final = Mutant(
    name="an org pauses a pool for everybody",
    what="What one org has paused is held for the others.",
    edits=[
        Edit(
            _LANES,
            "        pauses = self._pauses.get(lane.org) if self._pauses else None\n",
            "        pauses = frozenset().union(*self._pauses.values()) if self._pauses else None\n",
        )
    ],
    tests=[_TURNS],
)
NEVER_TAKEN_UP: Final = Mutant(
    name="what was paused stays held",
    what="The end of a pause does not sort what it held.",
    edits=[
        Edit(
            _LANES,
            "        else:\n            self._pauses.pop(org, None)\n",
            "        else:\n            self._pauses.pop(org, None)\n            return\n",
        )
    ],
    tests=[_TURNS],
)
NO_BACKPRESSURE: Final = Mutant(
    name="an org may begin as much as it likes",
    what="What is held refuses nobody.",
    edits=[Edit("chassis.held", "        return ours >= most or", "        return ours < 0 or")],
    tests=["tests/gateway/test_pauses_api.py"],
)
ALL_REFUSED: Final = Mutant(
    name="one org's crowd refuses everybody",
    what="An org with nothing waiting is told to come again.",
    edits=[Edit("chassis.held", "(ours > 0 and self.waiting >=", "(self.waiting >=")],
    tests=["tests/gateway/test_pauses_api.py"],
)

MUTANTS: Final = (
    UNFAIR,
    NO_SHARE,
    NO_WINDOW,
    RUDE,
    UNRANKED,
    NEVER_FREED,
    NEVER_ASKED,
    UNREAD,
    SENT_TO_THE_STOPPED,
    LOST_ON_THE_WAY,
    SILENT_HEIR,
    PAUSE_UNHEARD,
    PAUSE_OF_ALL,
    NEVER_TAKEN_UP,
    NO_BACKPRESSURE,
    ALL_REFUSED,
)
