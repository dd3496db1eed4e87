"""A run's history as a file that proves itself: its bytes, its plan, and the way from its commits to signed anchors.

Whoever has the public key can check it with nothing else: no server, no database, no program of ours is asked.
"""

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Final, Literal

from msgspec import Meta, Struct

from chassis.ids import digest
from contracts.codec import Decoder, Malformed, decode_envelope, encode
from contracts.limits import COMMIT_BYTES, MIB, Id, OrgId
from contracts.subjects import run as run_subject
from deploy.operator.agreement import verdict
from deploy.refusals import Refused
from projections.anchors import Anchor, AnchorBody, decode_anchor, decode_body, is_authentic
from projections.head_lists import Head
from projections.merkle import leaf, path, root_by

FORMAT: Final = "automateos.history.1"
FILE_BYTES: Final = 64 * MIB
_COMMITS: Final = 100_000
_PROOFS: Final = 10_000
_LEAVES: Final = 2**40
_LEVELS: Final = 40

_Hash = Annotated[str, Meta(pattern=r"^[0-9a-f]{64}$")]


class Proof(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """That one commit was the history's newest when an anchor was made, and with it all commits before it."""

    version: Annotated[int, Meta(ge=1, le=_COMMITS)]
    anchor: Annotated[str, Meta(max_length=64_000)]
    """The anchor's stored bytes."""
    index: Annotated[int, Meta(ge=0, lt=_LEAVES)]
    """Which leaf of the anchor's tree it is, counted from 0."""
    path: Annotated[tuple[_Hash, ...], Meta(max_length=_LEVELS)]
    """The hashes beside the way to the root, the lowest first (RFC 6962)."""


class Export(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The file."""

    format: Literal["automateos.history.1"]
    org: OrgId
    run: Id
    commits: Annotated[
        tuple[Annotated[str, Meta(max_length=2 * COMMIT_BYTES)], ...], Meta(max_length=_COMMITS)
    ]
    """Every commit's bytes as they were stored. They are JSON, and stand here as text."""
    plan: Annotated[str, Meta(max_length=32 * MIB)] | None
    """The bytes of the plan that the run follows; `run.started` says their SHA-256."""
    proofs: Annotated[tuple[Proof, ...], Meta(max_length=_PROOFS)]
    key: _Hash
    """The fingerprint of the public key: the SHA-256 of its 32 bytes."""


class Checked(Struct, frozen=True, kw_only=True):
    """What the check of a file gave."""

    org: str
    run: str
    commits: int
    proven: int
    """So many of them, from the first one on, are fixed by a signature."""
    anchor: int = 0
    """The anchor that fixes the newest of them."""
    anchored: str = ""
    """When the signer says that this anchor was made."""
    problems: tuple[str, ...] = ()

    @property
    def whole(self) -> bool:
        return not self.problems and self.commits == self.proven > 0


_decode: Final = Decoder[Export](Export)


def proof(anchor: bytes, heads: Sequence[Head], subject: str) -> Proof | None:
    """The proof that an anchor holds for a history; None when it did not move in the anchor's interval."""
    index = next((place for place, head in enumerate(heads) if head.subject == subject), None)
    if index is None:
        return None
    leaves = [leaf(head.subject, head.version, head.hash) for head in heads]
    beside = tuple(each.hex() for each in path(leaves, index))
    return Proof(version=heads[index].version, anchor=anchor.decode(), index=index, path=beside)


def written(export: Export, file: Path) -> None:
    data = encode(export) + b"\n"
    if len(data) > FILE_BYTES:
        raise Refused(f"The history and its proofs are larger than {FILE_BYTES // MIB} MiB.")
    file.write_bytes(data)


def read(file: Path) -> Export:
    """Refused, in one line, when it is no export: whatever its bytes are, within bounded memory.

    Its types bound how deep it nests: what is not expected somewhere is refused there, and not read.
    """
    with file.open("rb") as opened:
        data = opened.read(FILE_BYTES + 1)
    if len(data) > FILE_BYTES:
        raise Refused(f"{file} is larger than {FILE_BYTES // MIB} MiB: no export is.")
    try:
        return _decode(data)
    except Malformed as malformed:
        place = f" at {malformed.pointer}" if malformed.pointer else ""
        raise Refused(f"{file} is no export of {FORMAT}: {malformed}{place}") from None


def checked(export: Export, public: bytes) -> Checked:
    """Check it with the public key alone."""
    bodies = [commit.encode() for commit in export.commits]
    problems = [_here(problem) for problem in verdict((), bodies, (export.org, export.run)).problems]
    if export.key != hashlib.sha256(public).hexdigest():
        problems.append(f"it was signed with the key {export.key[:16]}…, which is not the one given")
    problems += _plan(export, bodies)
    proven, newest = 0, None
    for number, each in enumerate(export.proofs, 1):
        body = _proved(each, export, bodies, public)
        if isinstance(body, str):
            problems.append(f"proof {number}: {body}")
        elif each.version > proven:
            proven, newest = each.version, body
    return Checked(
        org=export.org,
        run=export.run,
        commits=len(bodies),
        # A chain that is broken carries no signature back to its beginning.
        proven=0 if problems else proven,
        anchor=newest.number if newest is not None else 0,
        anchored=newest.time if newest is not None else "",
        problems=tuple(problems),
    )


def _here(problem: str) -> str:
    """A file is neither log nor archive."""
    words = problem.removeprefix("archive: ").replace("in neither log nor archive", "not in the file")
    return "it has no commits" if words == "there is no such run" else words


def _proved(each: Proof, export: Export, bodies: Sequence[bytes], public: bytes) -> AnchorBody | str:
    """The signed body of the proof's anchor, or what is wrong with the proof."""
    try:
        anchor: Anchor = decode_anchor(each.anchor.encode())
        body = decode_body(anchor.body)
    except Malformed as malformed:
        return f"its anchor cannot be read: {malformed}"
    if not is_authentic(anchor, public):
        return f"anchor {body.number} is not signed with this key"
    if each.version > len(bodies):
        return f"it is about version {each.version}, which is not in the file"
    hashed = bytes.fromhex(digest(bodies[each.version - 1]))
    head = leaf(run_subject(export.org, export.run), each.version, hashed)
    root = root_by(head, each.index, body.leaves, [bytes.fromhex(beside) for beside in each.path])
    if root is None or root.hex() != body.root:
        return f"anchor {body.number} does not hold this version {each.version}"
    return body


class _Started(Struct, frozen=True):
    type: str = ""
    plan: str = ""


_started: Final = Decoder[_Started](_Started)


def _plan(export: Export, bodies: Sequence[bytes]) -> list[str]:
    """Whether the plan in the file is the one that the run names."""
    if export.plan is None:
        return []
    named = digest(export.plan.encode())
    try:
        events = [_started(event) for body in bodies[:100] for event in decode_envelope(body).events]
    except Malformed:
        return []  # Told already: a commit cannot be read.
    if any(event.type == "run.started" and event.plan == named for event in events):
        return []
    return ["the plan is not the one that the run follows"]


def told(check: Checked, export: Export) -> list[str]:
    """The result for people."""
    name = f"run {check.org}/{check.run}"
    lines = [f"{name}: {problem}" for problem in check.problems]
    if check.problems:
        return [*lines, f"{name} is not proven"]
    if check.proven == 0:
        return [f"{name}: no anchor holds it: nothing is proven"]
    proven = f"{name}: {check.proven} of {check.commits} commits are proven by anchor {check.anchor} of {check.anchored}"
    if check.proven < check.commits:
        return [
            proven,
            f"{name}: commits {check.proven + 1} to {check.commits} came later and are not proven",
        ]
    key = f"key {export.key[:16]}…"
    return [f"{proven} ({key}): unchanged since then"]
