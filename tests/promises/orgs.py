"""P12: each org is alone. What is one org's is stored, followed, done and answered as its own, also where two orgs have the
same by the same names.
"""

from collections import defaultdict
from collections.abc import Iterator, Sequence

from tests.promises.evidence import Evidence, History, Violation

PROMISE = "P12"


def each_org_is_alone(evidence: Evidence, histories: Sequence[History]) -> Iterator[Violation]:
    orgs = defaultdict[str, set[str]](set)
    for history in histories:
        orgs[history.run].add(history.org)
    for run, found in orgs.items():
        if len(found) > 1:
            yield Violation(PROMISE, f"it is a run of {sorted(found)}", run)
    for history in histories:
        yield from _follows_its_own(evidence, history)
        start = history.start
        if start is not None and start.parent is not None and start.parent.run in orgs:
            yield from _same(history.org, orgs[start.parent.run], "its parent", history.run)
    for effect in evidence.effects:
        if effect.org:
            yield from _same(effect.org, orgs[effect.run], f"the call of {effect.step}", effect.run)
    for entry in evidence.ledger:
        if entry.org and entry.run:
            yield from _same(entry.org, orgs[entry.run], f"the answer of {entry.trigger}", entry.run)


def _follows_its_own(evidence: Evidence, history: History) -> Iterator[Violation]:
    plan = evidence.plans.get(history.start.plan) if history.start is not None else None
    if plan is not None and plan.org != history.org:
        yield Violation(PROMISE, f"a run of {history.org} follows a plan of {plan.org}", history.run)


def _same(org: str, found: set[str], what: str, run: str) -> Iterator[Violation]:
    """What belongs to no run at all is another promise."""
    if found and org not in found:
        yield Violation(PROMISE, f"{what} is of {org}, the run of {sorted(found)}", run)
