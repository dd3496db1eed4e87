"""What the gateway wrote, as far as owners of schedules and runs ask for it.

That is a trigger's timetable, the variables and the limits of its org, and what of a workflow is published.
Read at every look, so that what somebody was told to have changed counts at once; only what is new of it is read.
"""

from collections import OrderedDict
from collections.abc import Callable, Sequence
from functools import reduce
from typing import Any, Final, TypeVar

from chassis.ports import Away, Log
from chassis.together import Together
from contracts.codec import Malformed, Unknown, decode_domain_commit
from contracts.commits import DomainCommit
from contracts.gates import OrgLimits
from contracts.subjects import domain as domain_subject
from contracts.workflows import OrgLimitsSet, OrgSays, said
from orchestrator.published import Published
from orchestrator.published import add as publish
from orchestrator.timetable import Timetable, add

T = TypeVar("T")

KEPT: Final = 4_000
AT_ONCE: Final = 256


class Domain:
    """Folds of DOMAIN's histories, kept with the place up to which they were read."""

    def __init__(self, log: Log) -> None:
        self._log = log
        self._newest = Together(self._last, AT_ONCE)
        self._kept: OrderedDict[tuple[str, str], tuple[int, Any]] = OrderedDict()
        self._epoch = 0

    async def timetable(self, org: str, schedule: str) -> Timetable:
        """Raises `Away`, or `Unknown` when a newer release has changed the trigger."""
        return await self._folded(org, "trigger", schedule, Timetable(), add)

    async def says(self, org: str) -> OrgSays:
        """What an org says of all its runs. Raises `Away`, or `Unknown` when a newer release has changed it."""
        return await self._folded(org, "org", org, OrgSays(), _says)

    async def limits_of(self, org: str) -> OrgLimits:
        """What gates that its workflows share let in. Raises `Away`, also while only a newer release can read it."""
        try:
            return await self._folded(org, "org", org, {}, _limits, "limits")
        except (Unknown, Malformed) as unreadable:
            raise Away(f"org {org} cannot be read: {unreadable}") from unreadable

    async def published(self, org: str, workflow: str) -> Published:
        """Raises `Away`, also while only a newer release can read what was changed: it is asked again then."""
        try:
            return await self._folded(org, "workflow", workflow, Published(), publish)
        except (Unknown, Malformed) as unreadable:
            raise Away(f"workflow {workflow} cannot be read: {unreadable}") from unreadable

    async def _folded(
        self,
        org: str,
        aggregate: str,
        id_: str,
        new: T,
        fold: Callable[[T, DomainCommit[Any]], T],
        what: str = "",
    ) -> T:
        """`what`: of several folds of one history, which."""
        subject = domain_subject(org, aggregate, id_)
        place: int
        value: T
        place, value = self._kept.get((subject, what), (0, new))
        newest = await self._newest.ask(subject)
        stored = await self._log.history(subject, place) if newest != place else []
        if self._log.epoch != self._epoch:
            # Another log, or the same one restored: places of before mean nothing in it.
            self._kept.clear()
            self._epoch = self._log.epoch
            value, stored = new, await self._log.history(subject)
        for message in stored:
            value = fold(value, decode_domain_commit(message.body, aggregate))
        self._keep((subject, what), stored[-1].sequence if stored else place, value)
        return value

    async def _last(self, subjects: Sequence[str]) -> list[int]:
        """Where the newest message of each lies; 0: there is none."""
        found = await self._log.last(list(dict.fromkeys(subjects)))
        return [found[subject].sequence if subject in found else 0 for subject in subjects]

    def _keep(self, key: tuple[str, str], place: int, value: Any) -> None:
        self._kept[key] = (place, value)
        self._kept.move_to_end(key)
        if len(self._kept) > KEPT:
            self._kept.popitem(last=False)


def _limits(before: OrgLimits, commit: DomainCommit[Any]) -> OrgLimits:
    for event in commit.events:
        if isinstance(event, OrgLimitsSet):
            before = event.limits
    return before


def _says(before: OrgSays, commit: DomainCommit[Any]) -> OrgSays:
    return reduce(said, commit.events, before)
