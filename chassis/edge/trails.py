"""What came by our own address from a run of ours goes on behind that run, and no further than runs may start each other."""

import structlog
from msgspec import structs

from chassis.chains import Chains
from chassis.edge.problems import Problem
from contracts.causes import LOOP, goes_round, stopped
from contracts.limits import Id, OrgId
from contracts.runs import Cause

log = structlog.get_logger()


class Trails:
    """One per service that starts runs for who asks over HTTP."""

    def __init__(self, chains: Chains) -> None:
        self._chains = chains
        self.counts: dict[str, int] = {"followed": 0, "ignored": 0, "stopped": 0}

    def behind(self, cause: Cause, said: str | None, org: OrgId, workflow: Id) -> Cause:
        """The cause of a run of this workflow, behind the run that has asked for it. `said`: what stands in the header.

        Raises `Problem` where the workflow has started itself too often. What strangers say there changes nothing.
        """
        if said is None:
            return cause
        asking = self._chains.asking(said, org)
        if asking is None:
            self.counts["ignored"] += 1
            return cause
        cause = structs.replace(cause, depth=asking.depth, chain=asking.chain, run=asking.run)
        refused = stopped(cause, workflow, always=goes_round((*cause.chain, workflow)))
        if refused is not None:
            self.counts["stopped"] += 1
            log.warning("trail.loop", org=org, run=asking.run, workflow=workflow, reason=refused.message)
            raise Problem(LOOP, refused.message)
        self.counts["followed"] += 1
        return cause
