"""Starts a new run from a delivery that was recorded before."""

from typing import Any

import msgspec
from msgspec import Struct

from chassis.ids import digest, run_id
from chassis.ids import receipt as new_receipt
from chassis.ports import Blobs, Log
from chassis.sealing import Opener, Sealer, Unsealable
from chassis.seals import is_sealed
from chassis.vault import Shredded
from contracts.codec import Decoder, decode_commit, encode
from contracts.payloads import Payload
from contracts.runs import Cause, beginning
from contracts.subjects import hook as hook_subject
from contracts.triggers import Hook
from gateway.callers import Caller
from gateway.payloads import bytes_of, payload_of
from gateway.rejected import Rejected, absent
from gateway.runs.histories import Histories, first_of
from gateway.runs.store import Runs, Wanted
from gateway.runs.views import StartedRun
from gateway.sealing import Seals
from gateway.triggers.queries import TriggerQueries
from gateway.triggers.rules import bound
from gateway.triggers.store import Triggers

_hook = Decoder[Hook](Hook)


class Recorded(Struct, frozen=True):
    """What a delivery brought, and the run under whose key values of it are sealed."""

    input: Payload
    run: str = ""
    key_id: str = ""


class Redelivery:
    def __init__(  # noqa: PLR0913  # The composition root names every port once.
        self,
        *,
        triggers: Triggers,
        queries: TriggerQueries,
        runs: Runs,
        histories: Histories,
        hooks: Log,
        blobs: Blobs,
        vault: Seals,
    ) -> None:
        self._triggers, self._queries, self._runs = triggers, queries, runs
        self._histories, self._hooks, self._blobs, self._vault = histories, hooks, blobs, vault

    async def redeliver(self, caller: Caller, trigger_id: str, receipt: str, key: str | None) -> StartedRun:
        """A new run of what the trigger is bound to now, with the input of then."""
        trigger = bound(await self._triggers.state(caller.org, trigger_id))
        recorded = await self.recorded(caller.org, trigger_id, receipt)
        ours = new_receipt()
        name = f"receipt:{ours}" if key is None else f"idempotency:{key}"
        source = f"{trigger_id}:redelivery"
        given, sealed_as = await self.resealed(recorded, caller.org, run_id(caller.org, source, name))
        return await self._runs.want(
            caller,
            Wanted(
                workflow_id=trigger.workflow,
                version=trigger.version,
                plan=trigger.plan,
                source=source,
                cause=Cause(kind="redelivery", id=receipt),
                input=given,
                key=key,
                request=digest(receipt.encode()),
                trigger=trigger_id,
                receipt=ours,
                sealed_as=sealed_as,
            ),
        )

    async def recorded(self, org: str, trigger_id: str, receipt: str) -> Recorded:
        """What a delivery of the trigger brought."""
        row = await self._queries.delivery(org, trigger_id, receipt)
        if row["run"] is not None:
            return await self._from_run(org, row["run"])
        if row["result"] == "captured":
            return await self._from_hooks(org, trigger_id, row)
        raise Rejected("conflict", f"Of a delivery that was {row['result']} nothing is kept to start from.")

    async def _from_run(self, org: str, run: str) -> Recorded:
        lying = await first_of(self._histories, org, run)
        if lying is None:
            raise absent("run")
        first = decode_commit(lying.body)
        started = beginning(first.events)
        if started is None:
            raise Rejected("not_found", "The beginning of the run's history is no longer kept.")
        return Recorded(started.input, run, first.key_id)

    async def _from_hooks(self, org: str, trigger_id: str, row: Any) -> Recorded:
        records = await self._records(org, trigger_id, row["sequence"])
        if row["receipt"] not in records:
            raise Rejected("not_found", "The delivery is no longer kept.")
        record = records[row["receipt"]]
        return Recorded(record.body, record.receipt if record.key_id else "", record.key_id)

    async def samples(self, org: str, trigger_id: str) -> list[Hook]:
        """The newest deliveries that were captured, the newest first, as far as they are kept."""
        rows = await self._queries.captured(org, trigger_id)
        if not rows:
            return []
        records = await self._records(org, trigger_id, min(row["sequence"] for row in rows))
        return [records[row["receipt"]] for row in rows if row["receipt"] in records]

    async def _records(self, org: str, trigger_id: str, first: int) -> dict[str, Hook]:
        """What HOOKS has of a trigger from this sequence on, by receipt."""
        stored = await self._hooks.history(hook_subject(org, trigger_id), first - 1)
        records = [_hook(each.body) for each in stored]
        return {record.receipt: record for record in records}

    async def resealed(self, recorded: Recorded, org: str, run: str) -> tuple[Payload, str]:
        """Values sealed for the old run, sealed for the new one; nobody sees them on the way."""
        if not recorded.key_id:
            return recorded.input, ""
        document = msgspec.json.decode(await bytes_of(recorded.input, self._blobs))
        body = document.get("body")
        if isinstance(body, dict) and body.keys() == {"blob"}:
            raise Rejected("conflict", "A sealed body of bytes cannot be delivered again.")
        # The raw bytes beside it are sealed for the old run as well, and say nothing that the body does not.
        document.pop("raw", None)
        try:
            opener = await self._vault.opener(org, recorded.run, recorded.key_id)
            key_id, sealer = await self._vault.sealer(org, run)
            data = encode(_moved(document, opener, sealer))
        except (Unsealable, Shredded):
            raise Rejected("conflict", "Sealed values of the delivery can no longer be read.") from None
        return await payload_of(data, self._blobs), key_id


def _moved(value: Any, opener: Opener, sealer: Sealer) -> Any:
    if is_sealed(value):
        return {"$sealed": sealer.seal(opener.open(value["$sealed"]))}
    if isinstance(value, dict):
        return {key: _moved(item, opener, sealer) for key, item in value.items()}
    if isinstance(value, list):
        return [_moved(item, opener, sealer) for item in value]
    return value
