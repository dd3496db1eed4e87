"""DOMAIN in memory: which workflow has which plan, which trigger belongs to which workflow, which variables an org has.

Read once to its end at the start, then followed for ever. It holds what is small and asked for at every start of a run;
definitions stay in the log.
"""

from collections.abc import Callable, Iterator, Mapping
from functools import partial, reduce
from typing import Any, Final

from msgspec import Struct, structs

from chassis.followed import DomainFollowed
from chassis.ports import Reader
from contracts.commits import DomainCommit
from contracts.gates import ALL_RUNS, OrgLimit
from contracts.triggers import Follows
from contracts.workers import OrgWorkersAnnounced
from gateway.domain import Aggregate
from gateway.orgs.rules import ORG, OrgState
from gateway.triggers.rules import TRIGGER, TriggerState
from gateway.workflows.rules import WORKFLOW, WorkflowState

_FOLLOWED: Final[tuple[Aggregate[Any, Any], ...]] = (WORKFLOW, TRIGGER, ORG)


class Known(Struct):
    """What is known of one org."""

    workflow: dict[str, WorkflowState] = {}
    trigger: dict[str, TriggerState] = {}
    org: dict[str, OrgState] = {}


class Directory:
    """The newest state of what a run's start depends on."""

    def __init__(self, reader: Reader) -> None:
        self._orgs: dict[str, Known] = {}
        self.domain = DomainFollowed(reader, {each.name: partial(self._take, each) for each in _FOLLOWED})
        self.complete = self.domain.complete

    def workflow(self, org: str, workflow_id: str) -> WorkflowState | None:
        """A workflow that exists."""
        found = self._known(org).workflow.get(workflow_id)
        return found if found is not None and found.exists else None

    def trigger(self, org: str, trigger_id: str) -> TriggerState | None:
        """A trigger that exists."""
        found = self._known(org).trigger.get(trigger_id)
        return found if found is not None and found.exists else None

    def triggers_of(self, org: str, workflow_id: str) -> list[str]:
        return [
            id_
            for id_, trigger in self._known(org).trigger.items()
            if trigger.exists and trigger.workflow == workflow_id
        ]

    def followers_in(self, org: str) -> int:
        """How many triggers of an org follow its events."""
        return sum(each.exists and isinstance(each.on, Follows) for each in self._known(org).trigger.values())

    def vars_of(self, org: str) -> dict[str, Any]:
        return dict(self._org(org).vars)

    def limit_of(self, org: str) -> OrgLimit | None:
        """What an org says of all its runs."""
        return self._org(org).limits.get(ALL_RUNS)

    def workers_of(self, org: str) -> Mapping[str, OrgWorkersAnnounced]:
        """By pool what the org's workers outside announced last."""
        return self._org(org).workers

    def unbound(self) -> Iterator[tuple[str, str, str]]:
        """Every trigger (org, workflow, trigger) that does not follow what its workflow has published."""
        for org, known in self._orgs.items():
            for id_, trigger in known.trigger.items():
                workflow = known.workflow.get(trigger.workflow)
                if trigger.exists and workflow is not None and workflow.plan != trigger.plan:
                    yield org, trigger.workflow, id_

    async def follow(self) -> None:
        """Read for ever; `complete` is set when the past has been read."""
        await self.domain.follow()

    async def reached(self, sequence: int) -> None:
        """Return when everything up to this sequence of DOMAIN has been read."""
        await self.domain.reached(sequence)

    def _org(self, org: str) -> OrgState:
        return self._known(org).org.get(org) or ORG.new

    def _known(self, org: str) -> Known:
        return self._orgs.get(org) or Known()

    def _take(self, aggregate: Aggregate[Any, Any], org: str, id_: str, commit: DomainCommit[Any]) -> None:
        kept: dict[str, Any] = getattr(self._orgs.setdefault(org, Known()), aggregate.name)
        state = reduce(aggregate.evolve, commit.events, kept.get(id_, aggregate.new))
        kept[id_] = _LIGHT.get(aggregate.name, _whole)(state)


def _whole(state: Any) -> Any:
    return state


def _without_definitions(state: WorkflowState) -> WorkflowState:
    return structs.replace(state, definitions=(), cases={})


_LIGHT: Final[Mapping[str, Callable[[Any], Any]]] = {"workflow": _without_definitions}
