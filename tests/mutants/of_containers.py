"""Mutants of maps and loops: what begins in them, when it is over, and where its result stands."""

from typing import Final

from tests.mutants.mutant import Edit, Mutant

_ATTEMPTS: Final = "orchestrator.attempts"
_CONTAINERS: Final = "orchestrator.containers"
_DECISIONS: Final = "orchestrator.decisions"
_TURN_OF: Final = "orchestrator.turn"
_EVOLUTION: Final = "orchestrator.evolution"
_INPUTS: Final = "orchestrator.inputs"
_JUDGE: Final = "orchestrator.judge"
_READINESS: Final = "orchestrator.readiness"
_REMEMBERED: Final = "orchestrator.remembered"
_STAGE: Final = "maps and loops"
_MAPS: Final = "tests/orchestrator/test_maps.py"
_MANY: Final = "tests/orchestrator/test_many_items.py"
_DRAWN: Final = "tests/orchestrator/test_containers.py"
_SHELL: Final = "tests/orchestrator/test_service.py"

# --- What came of them ----------------------------------------------------------------------------

PAGE_LOST: Final = Mutant(
    name="a page of results is lost",
    what="Of the pages that are kept only the newest is remembered.",
    edits=[
        Edit(
            _REMEMBERED,
            "kept={**known.kept, event.page: event.results})",
            "kept={event.page: event.results})",
        )
    ],
    tests=[_MAPS],
)
PAGE_NEVER_KEPT: Final = Mutant(
    name="a full page is not kept",
    what="What came of items is never put in its place, and their map gives nothing.",
    edits=[
        Edit(
            _CONTAINERS,
            "    if len(items.results.get(page, {})) < min(",
            "    if len(items.results.get(page, {})) <= min(",
        )
    ],
    stage=_STAGE,
)
PAGES_BY_NAME: Final = Mutant(
    name="pages stand in the order of their names",
    what="The tenth page of results stands behind the first.",
    edits=[Edit(_INPUTS, "for page in sorted(items.kept)}", "for page in sorted(items.kept, key=str)}")],
    tests=[_MANY],
)
RESULT_ELSEWHERE: Final = Mutant(
    name="results stand in the order in which they came",
    what="What came of an item stands in the place of another one that was over later.",
    edits=[
        Edit(
            _INPUTS,
            "    came = sorted(items.results[page].items())",
            "    came = list(items.results[page].items())",
        )
    ],
    stage=_STAGE,
)
FIRST_PAGE_AGAIN: Final = Mutant(
    name="every page of items is the first",
    what="Item one hundred is item nought again.",
    edits=[Edit(_INPUTS, "values.item(items.pages[page], place)", "values.item(items.pages[0], place)")],
    tests=[_MAPS],
)
ONE_KEY_FOR_ALL: Final = Mutant(
    name="all items act under one key",
    what="The world takes the call of the second item for a repetition of the first's.",
    edits=[
        Edit(
            _ATTEMPTS,
            '        key=f"{run.id}/{path}",',
            '        key=f"{run.id}/{node.id}",',
        )
    ],
    stage=_STAGE,
)

# --- What begins ----------------------------------------------------------------------------------

BEGUN_TWICE: Final = Mutant(
    name="the last item begins twice",
    what="Of the items that have begun the last one counts as one that has not.",
    edits=[
        Edit(
            _REMEMBERED,
            "begun=max(known.begun, behind), open=opened)",
            "begun=max(known.begun, behind - (event.count > 1)), open=opened)",
        )
    ],
    stage=_STAGE,
)
ALL_AT_ONCE: Final = Mutant(
    name="at_once is ignored",
    what="All items of a map begin together.",
    edits=[
        Edit(
            _CONTAINERS,
            '        free = min(node.config.get("at_once", AT_ONCE) - len(items.open), items.count - items.begun)',
            "        free = items.count - items.begun",
        )
    ],
    stage=_STAGE,
)
CLOSED_BEGINS: Final = Mutant(
    name="a closed item begins steps",
    what="In an item that fails, steps begin all the same.",
    edits=[
        Edit(
            _TURN_OF,
            '        if self.run.step(path).status != "pending" or closed(self.run, self._graph, path):',
            '        if self.run.step(path).status != "pending":',
        )
    ],
    stage=_STAGE,
)
CLOSED_TRIES_AGAIN: Final = Mutant(
    name="a closed item makes attempts again",
    what="In an item that fails, what failed or has waited is attempted again.",
    edits=[
        Edit(
            _TURN_OF,
            "        return self._stops or closed(self.run, self._graph, path)",
            "        return self._stops",
        )
    ],
    stage=_STAGE,
)
NEIGHBOURS_GO_ON: Final = Mutant(
    name="items go on beside one that failed",
    what="Where a map fails with its item, the other items begin more steps.",
    edits=[
        Edit(
            _CONTAINERS,
            "        if not continues(graph.nodes[node_of(container)]) and items.fails:\n"
            "            return True\n",
            "",
        )
    ],
    stage=_STAGE,
)
OTHER_ITEMS_NEIGHBOUR: Final = Mutant(
    name="a step looks at its neighbour in another item",
    what="Whether a step can go is what the first item says.",
    edits=[
        Edit(
            _READINESS,
            "        step = run.steps.get(beside + edge.source)",
            '        first = item.rpartition("[")[0] + "[0]." if item else ""\n'
            "        step = run.steps.get(first + edge.source)",
        )
    ],
    stage=_STAGE,
)
TAKEN_FROM_ANOTHER: Final = Mutant(
    name="a step is given what another item gave",
    what="What comes into a step is the first item's.",
    edits=[
        Edit(
            _READINESS,
            '    item, dot, node = path.rpartition(".")\n    sources = {',
            '    item, dot, node = path.rpartition(".")\n'
            '    item = item.rpartition("[")[0] + "[0]" if item else item\n    sources = {',
        )
    ],
    stage=_STAGE,
)
WRONG_ITEM_SEEN: Final = Mutant(
    name="expressions look into their own item only",
    what="A node outside of the container is looked for inside of it.",
    edits=[
        Edit(
            _READINESS,
            "    while item and container_node(item) != container:\n        item = item_of(item)\n",
            "",
        )
    ],
    tests=[_DRAWN],
)
ROUNDS_WITHOUT_END: Final = Mutant(
    name="a loop's bound is ignored",
    what="A loop whose condition does not hold goes on for ever.",
    edits=[
        Edit(
            _TURN_OF,
            "        if goes_on is True and items.begun >= most:",
            "        if goes_on is True and items.begun >= most * 10**6:",
        )
    ],
    stage=_STAGE,
)
LAST_ROUND_LOST: Final = Mutant(
    name="a round begins with what the first one was given",
    what="What came of a round is not remembered for the next.",
    edits=[Edit(_REMEMBERED, "open=still_open, last=last)", "open=still_open)")],
    stage=_STAGE,
)
FROM_THE_START: Final = Mutant(
    name="a map that is tried again begins from the start",
    what="A retry does what is over a second time.",
    edits=[Edit(_REMEMBERED, "open=dict.fromkeys(items.open))", "open=dict.fromkeys(items.open), begun=0)")],
    stage=_STAGE,
)
FAILED_FOR_EVER: Final = Mutant(
    name="an item that failed is not tried again",
    what="After a retry an item that failed is closed as before.",
    edits=[
        Edit(
            _REMEMBERED,
            "    return structs.replace(items, open=dict.fromkeys(items.open))",
            "    return items",
        )
    ],
    stage=_STAGE,
)
NOTHING_LOOKED_AT_INSIDE: Final = Mutant(
    name="a retry does not look into items",
    what="What failed in an item is not begun again.",
    edits=[
        Edit(
            _TURN_OF,
            "            for number in items.open:\n                self._look_inside(item_path(path, number))\n",
            "",
        )
    ],
    stage=_STAGE,
)

# --- When it is over ------------------------------------------------------------------------------

FAILURE_UNNOTICED: Final = Mutant(
    name="an item's failure is not noticed",
    what="An item in which a step failed is done, and its map completes.",
    edits=[
        Edit(
            _EVOLUTION,
            '        changes["items"] = remembered.failing(run.items, item_of(path), event.error)',
            '        changes["items"] = run.items',
        )
    ],
    stage=_STAGE,
)
MAP_UNMOVED: Final = Mutant(
    name="a map does not notice that an item fails",
    what="A map with an item that failed neither ends nor goes on.",
    edits=[
        Edit(
            _TURN_OF,
            "        elif items.failure is not None and not continues(node):\n"
            "            self._end_failed(container, node, items.failure)\n",
            "",
        )
    ],
    stage=_STAGE,
)
TAKEN_BY_NOBODY: Final = Mutant(
    name="a failure that nothing takes waits for the other items",
    what="A run that cannot end well goes on with whatever lies beside what failed.",
    edits=[
        Edit(
            _CONTAINERS,
            "    return continues(node) or node.id in graph.handled",
            "    return continues(node) or node.contains",
        )
    ],
    tests=[_MAPS],
)
NO_DRAIN: Final = Mutant(
    name="a map's error path does not wait",
    what="The error path of a map is taken while attempts inside are under way.",
    edits=[Edit(_TURN_OF, "        if under_way(self.run, inside):\n            return\n", "")],
    stage=_STAGE,
)
DONE_TOO_EARLY: Final = Mutant(
    name="an item is done while an attempt is under way",
    what="What came of an item is said before every step of it is over.",
    edits=[
        Edit(
            _CONTAINERS,
            '    if run.step(container).status != "running" or under_way(run, inner):',
            '    if run.step(container).status != "running":',
        )
    ],
    stage=_STAGE,
)
DONE_WHILE_IT_WAITS: Final = Mutant(
    name="an item is done while it waits",
    what="An item whose steps wait is over.",
    edits=[
        Edit(
            _CONTAINERS,
            "    if any(_waits(run, inner)) or (",
            "    if (",
        )
    ],
    stage=_STAGE,
)
DOUBT_IS_OVER: Final = Mutant(
    name="an item is over while a step is in doubt",
    what="Nobody is asked any more whether the world was touched.",
    edits=[
        Edit(
            _CONTAINERS,
            "for each in (run.attempts, run.doubts) for path in each)",
            "for path in run.attempts)",
        )
    ],
    stage=_STAGE,
)
CLEARED_UNSAID: Final = Mutant(
    name="what is cleared in an item that failed is not said",
    what="Waits and steps of an item that failed vanish, and the history does not say so.",
    edits=[
        Edit(
            _CONTAINERS,
            "        return [*cleared(run, inner), failed] if continues(node) else []",
            "        return [failed] if continues(node) else []",
        )
    ],
    stage=_STAGE,
)
CLEARED_UNSAID_BY_MAPS: Final = Mutant(
    name="what is cleared in a map that failed is not said",
    what="Waits and steps inside of a map vanish when its error path takes over.",
    edits=[
        Edit(
            _TURN_OF,
            "        for decision in cleared(self.run, inside):\n            self.say(decision)\n",
            "",
        )
    ],
    stage=_STAGE,
)
STEPS_REMEMBERED: Final = Mutant(
    name="the steps of items that are over are remembered",
    what="What a run remembers grows with everything that it ever did.",
    edits=[
        Edit(
            _EVOLUTION,
            '        "steps": remembered.without_steps(run.steps, inner),',
            '        "steps": run.steps,',
        )
    ],
    tests=[_MAPS],
)
INNER_MAPS_REMEMBERED: Final = Mutant(
    name="maps in items that are over are remembered",
    what="A map in an item that failed counts as one under way.",
    edits=[
        Edit(
            _EVOLUTION,
            '        "items": {path: items for path, items in over.items() if not path.startswith(inner)},',
            '        "items": over,',
        )
    ],
    tests=[_MAPS],
)

# --- So much and no more in one commit ------------------------------------------------------------

NO_TURNS: Final = Mutant(
    name="a map takes no turns",
    what="A map of light nodes is done in one commit, however long it gets.",
    edits=[
        Edit(_CONTAINERS, "    if said and room <= 0:", "    if said and room <= 0 and not node.contains:")
    ],
    tests=[_MANY],
)
TURN_UNNOTICED: Final = Mutant(
    name="a turn that has come is not noticed",
    what="A container whose turn it is does not go on.",
    edits=[
        Edit(
            _DECISIONS,
            "    elif isinstance(fact, WaitEnded) and (container := turn_of(fact)):\n"
            "        turn.look_at(container)\n",
            "",
        )
    ],
    tests=[_MAPS],
)
OUT_OF_TURN: Final = Mutant(
    name="a map goes on before its turn",
    what="Whatever happens inside of a map that waits for its turn lets it go on.",
    edits=[
        Edit(
            _TURN_OF,
            "        elif waits_its_turn(self.run, container):\n            return\n",
            "",
        )
    ],
    tests=[_MANY],
)
TURN_KEPT: Final = Mutant(
    name="a map that failed still waits for its turn",
    what="A run does not end before a turn has come that nobody takes.",
    edits=[
        Edit(
            _TURN_OF,
            "            self.say(WaitDropped(wait=turn_wait(container)))",
            "            pass",
        )
    ],
    tests=[_MANY],
)
COMMITS_WITHOUT_BOUND: Final = Mutant(
    name="everything that was told goes into one commit",
    what="However much is told of a run at once, one commit says what follows.",
    edits=[
        Edit(
            _JUDGE,
            "            if len(events) >= EVENTS_PER_TURN:",
            "            if len(events) >= EVENTS_PER_TURN * 10**6:",
        )
    ],
    tests=[_SHELL],
)
LEFT_BEHIND: Final = Mutant(
    name="what one commit has no room for is forgotten",
    what="Of what was told at once only as much is heard as one commit has room for.",
    edits=[
        Edit(
            "orchestrator.service",
            "        self._tray.put_first(run_id, letters[len(judged.letters) :])\n",
            "",
        )
    ],
    tests=[_SHELL],
)
LATER_FIRST: Final = Mutant(
    name="what one commit has no room for comes last",
    what="What was told later is heard before what was told first.",
    edits=[
        Edit(
            "orchestrator.service",
            "        self._tray.put_first(run_id, letters[len(judged.letters) :])\n",
            "        later = self._tray.take_of(run_id)\n"
            "        self._tray.put_first(run_id, later + letters[len(judged.letters) :])\n",
        )
    ],
    tests=[_SHELL],
)
STEPS_UNBOUNDED: Final = Mutant(
    name="any number of steps may be under way together",
    what="A workflow may have more under way than a commit that stops it can name.",
    edits=[Edit("orchestrator.insides", "        if at_once > STEPS_AT_ONCE:", "        if at_once < 0:")],
    tests=[_DRAWN],
)

# --- What people see ------------------------------------------------------------------------------

ROW_IS_PENDING: Final = Mutant(
    name="the row of a map that is tried again says pending",
    what="A map whose items go on looks like one that has not begun.",
    edits=[
        Edit(
            "projections.events",
            '            _move(run, step, "running")',
            '            _move(run, step, "pending")',
        )
    ],
    tests=["tests/projections/test_items.py"],
)
FAILED_UNCOUNTED: Final = Mutant(
    name="items that failed are not counted",
    what="Nobody sees that a map goes on without some of its items.",
    edits=[
        Edit(
            "projections.events",
            "    step.items_failed = (step.items_failed or 0) + 1\n",
            "    step.items_failed = step.items_failed or 0\n",
        )
    ],
    tests=["tests/projections/test_items.py"],
)

MUTANTS: Final = (
    PAGE_LOST,
    PAGE_NEVER_KEPT,
    PAGES_BY_NAME,
    RESULT_ELSEWHERE,
    FIRST_PAGE_AGAIN,
    ONE_KEY_FOR_ALL,
    BEGUN_TWICE,
    ALL_AT_ONCE,
    CLOSED_BEGINS,
    CLOSED_TRIES_AGAIN,
    NEIGHBOURS_GO_ON,
    OTHER_ITEMS_NEIGHBOUR,
    TAKEN_FROM_ANOTHER,
    WRONG_ITEM_SEEN,
    ROUNDS_WITHOUT_END,
    LAST_ROUND_LOST,
    FROM_THE_START,
    FAILED_FOR_EVER,
    NOTHING_LOOKED_AT_INSIDE,
    FAILURE_UNNOTICED,
    MAP_UNMOVED,
    TAKEN_BY_NOBODY,
    NO_DRAIN,
    DONE_TOO_EARLY,
    DONE_WHILE_IT_WAITS,
    DOUBT_IS_OVER,
    CLEARED_UNSAID,
    CLEARED_UNSAID_BY_MAPS,
    STEPS_REMEMBERED,
    INNER_MAPS_REMEMBERED,
    NO_TURNS,
    TURN_UNNOTICED,
    OUT_OF_TURN,
    TURN_KEPT,
    COMMITS_WITHOUT_BOUND,
    LEFT_BEHIND,
    LATER_FIRST,
    STEPS_UNBOUNDED,
    ROW_IS_PENDING,
    FAILED_UNCOUNTED,
)
