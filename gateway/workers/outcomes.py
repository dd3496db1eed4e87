"""What is told of the attempts that workers outside hold: by the workers themselves, or for them.

Rule that holds here: an outcome is accepted before its task is acknowledged, so what is lost in between is said again, and
is an echo.
"""

from collections import Counter

import structlog

from chassis.edge.problems import Problem
from contracts.codec import Malformed, decode_json, depth_exceeds
from contracts.limits import JSON_DEPTH
from contracts.messages import Outcome
from contracts.payloads import Payload, null
from contracts.workers import Failed, GaveBack, LetGo, ReportedTask, ReportTask, Succeeded
from gateway.payloads import payload_of
from gateway.workers import rules
from gateway.workers.means import Means, Worker
from gateway.workers.rules import Claimed, Held

log = structlog.get_logger()


class Outcomes:
    """`counts`: what came of them, by its name."""

    def __init__(self, means: Means, counts: Counter[str]) -> None:
        self._means, self._counts = means, counts

    async def report(self, worker: Worker, said: ReportTask) -> ReportedTask:
        """Tell the run's owner; when it has accepted, the task is done. Said again it changes nothing."""
        held = await self._means.leases.open(worker.org, worker.pool, said.lease)
        report = said.report
        if isinstance(report, GaveBack) and rules.may_give_back(held, await self.claimed(held)):
            self._means.handing.give_back(held.delivery)
            return ReportedTask(result="accepted")
        denies = isinstance(report, Failed) or (isinstance(report, LetGo) and report.effect == "none")
        output: Payload = null()
        if isinstance(report, Succeeded):
            await self._check(held, report)
            kept, _ = await self._means.sealing.sealed(
                held.org, held.run, bytes(report.output), held.sensitive
            )
            output = await payload_of(kept, self._means.blobs)
        claimed = await (self._vouched(held) if denies else self.claimed(held))
        took_ms = max(0, int((self._means.clock.now().timestamp() - held.given_at) * 1000))
        accepted = await self.settle(held, rules.outcome(held, report, claimed, output, took_ms))
        self._counts[report.__struct_config__.tag if accepted else "lost"] += 1  # type: ignore[index]  # Every report has a tag.
        return ReportedTask(result="accepted" if accepted else "lost")

    async def _check(self, held: Held, report: Succeeded) -> None:
        """Raises `Problem` for an output that no history can keep, and for ports that the node does not have."""
        output = bytes(report.output)
        try:
            if depth_exceeds(output, JSON_DEPTH):
                raise Problem("malformed", f"The output is nested deeper than {JSON_DEPTH} levels.")
            decode_json(output)
        except Malformed:
            raise Problem("malformed", "The output is no JSON.") from None
        spec = (await self._means.types.of_pool(held.org, held.pool)).get(held.node_type)
        if spec is not None and not {port.name for port in spec.outputs}.issuperset(report.ports):
            raise Problem("malformed", "The node has no such port.")

    async def deny(self, held: Held, outcome: Outcome) -> None:
        """Say that nothing happened; that is ours to say only when nobody else may begin it."""
        if await self._vouched(held) == "another":
            outcome = rules.in_doubt(held, "Another has begun the call.")
        await self.settle(held, outcome)

    async def claimed(self, held: Held) -> Claimed:
        """Only what must not be repeated is claimed by anybody."""
        return await self._means.claims.whose(held) if held.repeat == "no" else "nobody"

    async def _vouched(self, held: Held) -> Claimed:
        """The same, and when nobody has begun, our claim keeps it so."""
        claimed = await self.claimed(held)
        if held.repeat == "no" and claimed == "nobody" and not await self._means.claims.claim(held):
            return "another"
        return claimed

    async def settle(self, held: Held, outcome: Outcome) -> bool:
        """Whether the history took it. Raises `Away` when nobody did: the task stays."""
        answer = await self._means.dispatch.send(outcome)
        self._means.handing.done(held.delivery)
        if answer.result == "refused":
            log.warning("outcome.refused", org=held.org, run=held.run, step=held.step, reason=answer.error)
        return answer.result == "accepted"
