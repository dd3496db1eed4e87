"""Anchors over recorded histories, signed with a key of the test's own; and exports that stand on them."""

import base64
import hashlib
from collections.abc import Sequence

from msgspec import Raw

from chassis.ports import Stored
from chassis.sealing import SigningKey
from chassis.secret import Secret
from contracts.codec import encode
from contracts.reference import VERSION
from contracts.subjects import anchor
from contracts.subjects import run as run_subject
from deploy.operator.anchored import fingerprint
from deploy.operator.exports import FORMAT, Export, proof
from projections.anchors import Anchor, AnchorBody, Stretch
from projections.head_lists import Head, part
from projections.merkle import leaf, root_of
from tests.histories.corpus import Recorded, recorded

KEY = SigningKey(Secret(b"s" * 32))
OTHER = SigningKey(Secret(b"o" * 32))
RUNS = list({run.run: run for run in recorded(VERSION) if run.expressions}.values())[:12]
"""Recorded runs whose names are all different."""


def heads(runs: Sequence[Recorded] = RUNS, without: int = 0) -> list[Head]:
    """The newest commits; `without`: as they were so many commits earlier."""
    found = []
    for run in runs:
        bodies = run.bodies[: max(1, len(run.commits) - without)]
        found.append(Head(run_subject(run.org, run.run), len(bodies), hashlib.sha256(bodies[-1]).digest()))
    return sorted(found, key=lambda head: head.order)


def signed(body: AnchorBody, key: SigningKey = KEY) -> bytes:
    data = encode(body)
    return encode(Anchor(body=Raw(data), signature=base64.b64encode(key.sign(data)).decode()))


def body(
    number: int, over: Sequence[Head], prev: bytes = b"", *, after: int = 0, through: int = 10, epoch: int = 1
) -> AnchorBody:
    return AnchorBody(
        format=1,
        number=number,
        time=f"2026-11-21T12:{number:02}:00+00:00",
        runs=Stretch(epoch=epoch, after=after, through=through),
        domain=Stretch(epoch=1, after=0 if number == 1 else 5, through=5),
        leaves=len(over),
        root=root_of(leaf(head.subject, head.version, head.hash) for head in over).hex(),
        prev=hashlib.sha256(prev).hexdigest() if prev else "",
        key=KEY.public.hex(),
        heads=(hashlib.sha256(part(list(over))).hexdigest(),),
    )


def three() -> list[Stored]:
    """Three anchors, one after the other."""
    stored: list[Stored] = []
    prev = b""
    for number in (1, 2, 3):
        prev = signed(body(number, heads(RUNS[:number]), prev, after=10 * number - 10, through=10 * number))
        stored.append(Stored(subject=anchor(1), sequence=2 * number, body=prev))
    return stored


def export(run: Recorded, key: SigningKey = KEY) -> Export:
    """A run with a proof of what it was one commit earlier, and of all of it."""
    proofs = []
    for number, without in ((1, 1), (2, 0)):
        over = heads(without=without)
        proofs.append(proof(signed(body(number, over), key), over, run_subject(run.org, run.run)))
    return Export(
        format=FORMAT,
        org=run.org,
        run=run.run,
        commits=tuple(run.commits),
        plan=run.plan,
        proofs=tuple(each for each in proofs if each is not None),
        key=fingerprint(key.public),
    )
