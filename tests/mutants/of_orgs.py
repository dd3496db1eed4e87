"""Mutants of what keeps orgs, versions and talks apart: whose run it is, by which plan, and what two orgs with the same names share."""

from typing import Final

from tests.mutants.mutant import Edit, Mutant

ONE_ORG_FOR_ALL: Final = Mutant(
    name="orgs: a key of one is a key of all",
    what="Two orgs with the same trigger and the same key have runs of one name, and calls under one key.",
    edits=[
        Edit(
            "ingress.accept",
            "        return Named(run=run_id(trigger.org, trigger.id, source), key=key, body=body)",
            '        return Named(run=run_id("all", trigger.id, source), key=key, body=body)',
        )
    ],
    stage="next door",
)
ANOTHERS_EVENTS: Final = Mutant(
    name="orgs: what happens next door is followed",
    what="A trigger starts runs for the events of another org.",
    edits=[
        Edit(
            "projections.following",
            "        wanted = self._means.subscriptions.types_in(org)\n",
            '        wanted = self._means.subscriptions.types_in("org")\n',
        ),
        Edit(
            "projections.following",
            "subscriptions.types_in(occurrence.org).get(occurrence.type, ())",
            'subscriptions.types_in("org").get(occurrence.type, ())',
        ),
        Edit(
            "projections.following",
            "subscriptions.of(occurrence.org, trigger)",
            'subscriptions.of("org", trigger)',
        ),
    ],
    stage="next door",
)
NOBODY_LISTENS: Final = Mutant(
    name="gates: what the org says counts nowhere",
    what="A gate that workflows share lets in what they say, however few their org wants inside.",
    edits=[
        Edit(
            "orchestrator.gatekeeping",
            "        return bounded(newest.wanted.bounds, (await self._limits_of(key[0])).get(newest.wanted.name))",
            "        return newest.wanted.bounds",
        )
    ],
    stage="shared gates",
)
ALWAYS_THE_NEWEST: Final = Mutant(
    name="a version that is named is the newest",
    what="Who asks for a run of the first version gets one of the second.",
    edits=[Edit("orchestrator.published", "called.version or found.latest", "found.latest")],
    stage="a second version",
)
NEVER_THE_NEWEST: Final = Mutant(
    name="what is published later is not followed",
    what="Who asks for a run of the newest version gets one of the first.",
    edits=[
        Edit(
            "orchestrator.published",
            "latest=event.version, plans=plans)",
            "latest=published.latest or event.version, plans=plans)",
        )
    ],
    stage="a second version",
)
SAME_WORDS: Final = Mutant(
    name="a message of a talk has no name",
    what="A message that is sent again starts another run, and is answered twice.",
    edits=[
        Edit(
            "ingress.sender_keys",
            '    return None if said.id is None else f"{said.session}:{said.id}"',
            "    return None",
        )
    ],
    stage="talks",
)

MUTANTS: Final = (
    ONE_ORG_FOR_ALL,
    ANOTHERS_EVENTS,
    NOBODY_LISTENS,
    ALWAYS_THE_NEWEST,
    NEVER_THE_NEWEST,
    SAME_WORDS,
)
