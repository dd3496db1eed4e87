"""Puts an export together: a run's stored bytes, its plan, and a proof for every anchor in whose interval it moved."""

from collections.abc import Sequence
from pathlib import Path

from chassis.archive import HistoryDropped, archived_commits, commits_of
from chassis.clock import SystemClock
from chassis.jetstream.log import JetStreamLog
from chassis.sealing import SigningKey
from contracts.payloads import Blob
from contracts.subjects import ANCHORS
from contracts.subjects import run as run_subject
from deploy.operator.anchored import Chain, Mark, chain, fingerprint, stored_anchors, with_lists
from deploy.operator.exports import FORMAT, Export, Proof, proof
from deploy.operator.histories import History, decoded
from deploy.operator.reach import Stores
from deploy.refusals import Refused
from projections.anchors import Anchors, PostgresHeads
from projections.figures import Figures
from projections.head_lists import Head


async def anchor_now(stores: Stores, signing_key: Path) -> None:
    """Anchor what has no anchor yet. `stores` are those of the projections: nobody else may write anchors."""
    log = JetStreamLog(stores.log.connection, ANCHORS)
    key = SigningKey.from_file(signing_key)
    await Anchors(PostgresHeads(stores.archive), log, key, SystemClock(), Figures()).anchor()


async def exported(stores: Stores, org: str, run: str, public: bytes) -> Export:
    """Refused when there is no such run."""
    try:
        bodies = await commits_of(stores.archive, stores.log.log, org, run)
    except HistoryDropped:
        raise Refused(f"The history of run {run} is older than the archive keeps.") from None
    if not bodies:
        raise Refused(f"There is no run {run} in org {org}.")
    whole = chain(await stored_anchors(stores), [public])
    places = [(commit.epoch, commit.sequence) for commit in await archived_commits(stores.archive, org, run)]
    return Export(
        format=FORMAT,
        org=org,
        run=run,
        commits=tuple(body.decode() for body in bodies),
        plan=await _plan(stores, History(org=org, run=run, commits=decoded(bodies))),
        proofs=tuple(await _proofs(stores, whole, places, run_subject(org, run))),
        key=fingerprint(public),
    )


async def _proofs(
    stores: Stores, whole: Chain, places: Sequence[tuple[int, int]], subject: str
) -> list[Proof]:
    marks = {mark.body.number: mark for place in places if (mark := whole.of_run(*place)) is not None}
    proofs = []
    async for mark, heads in with_lists(stores, whole, [marks[number] for number in sorted(marks)]):
        found = proof(mark.stored.body, heads or await _heads(stores, mark), subject)
        if found is not None:
            proofs.append(found)
    return proofs


async def _heads(stores: Stores, mark: Mark) -> list[Head]:
    """What the archive has in an interval whose list is lost. When it has changed, the proof will not hold."""
    source = PostgresHeads(stores.archive)
    heads = [head async for head in source.of_runs(mark.body.runs)]
    return heads + [head async for head in source.of_domain(mark.body.domain)]


async def _plan(stores: Stores, history: History) -> str | None:
    started = history.started
    if started is None:
        return None
    try:
        return (await stores.log.blobs.get(Blob(sha256=started.plan, size=0))).decode()
    except KeyError:
        return None
