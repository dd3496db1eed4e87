"""Whether a history is whole: versions in order and without a gap, hashes that chain, and a log and an archive that agree.

Everything is judged by the stored bytes: a commit's hash is that of its bytes, and two copies agree when their bytes do.
"""

from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import TypeAlias

from msgspec import Struct

from chassis.ids import digest
from contracts.codec import Malformed, decode_envelope
from contracts.commits import FIRST_HASH, Envelope

Names: TypeAlias = tuple[str, ...]
"""Of a history: org and run, or org, aggregate and id."""


class Flaw(Struct, frozen=True):
    """Something that is wrong with one commit, or with the history as a whole."""

    version: int | None
    what: str


class Verdict(Struct, frozen=True, kw_only=True):
    """What was compared, and everything that is wrong with it."""

    commits: int
    """How many commits the whole history has."""
    in_log: int
    in_archive: int
    problems: tuple[str, ...] = ()
    versions: tuple[int | None, ...] = ()
    """The commit that each problem is about."""


class _Copy(Struct, frozen=True, kw_only=True):
    """One place's copy: the bytes by version, and how they are framed."""

    bodies: Mapping[int, bytes]
    frames: Mapping[int, Envelope]
    flaws: Sequence[Flaw]


def verdict(
    log: Sequence[bytes],
    archive: Sequence[bytes] | None,
    names: Names | None = None,
    more: Sequence[Flaw] = (),
) -> Verdict:
    """Judge one history's commits in the order in which they lie there. `archive` is None when it could not be asked.

    `names`: whose commits they must be. `more`: what else was found wrong.
    """
    ours, theirs = _copy("log", log, names), _copy("archive", archive or (), names)
    bodies = {**theirs.bodies, **ours.bodies}
    frames = {**theirs.frames, **ours.frames}
    flaws = [*more, *ours.flaws, *theirs.flaws, *_differences(ours.bodies, theirs.bodies)]
    if archive is not None:
        flaws += _gaps(frames)
        flaws += _chain(bodies, frames)
    else:
        flaws += _chain(ours.bodies, ours.frames)
    return Verdict(
        commits=len(bodies),
        in_log=len(ours.bodies),
        in_archive=len(theirs.bodies),
        problems=tuple(flaw.what for flaw in flaws),
        versions=tuple(flaw.version for flaw in flaws),
    )


def _copy(place: str, stored: Sequence[bytes], names: Names | None) -> _Copy:
    bodies: dict[int, bytes] = {}
    frames: dict[int, Envelope] = {}
    flaws: list[Flaw] = []
    before = 0
    for body in stored:
        try:
            frame = decode_envelope(body)
        except Malformed as malformed:
            flaws.append(Flaw(None, f"{place}: a commit cannot be read ({malformed})"))
            continue
        version = frame.version
        if names is not None and names_of(frame) != names:
            flaws.append(Flaw(version, f"{place}: version {version} belongs to {'/'.join(names_of(frame))}"))
            continue
        if version in bodies:
            flaws.append(Flaw(version, f"{place}: version {version} is there twice"))
        elif version < before:
            flaws.append(Flaw(version, f"{place}: version {version} stands behind version {before}"))
        before = max(before, version)
        bodies[version], frames[version] = body, frame
    flaws += [
        Flaw(before + 1, f"{place}: version {before} is followed by {after}")
        for before, after in pairwise(sorted(bodies))
        if after != before + 1
    ]
    return _Copy(bodies=bodies, frames=frames, flaws=flaws)


def names_of(frame: Envelope) -> Names:
    """Whose commit it says that it is."""
    return (frame.org, frame.run) if frame.run else (frame.org, frame.aggregate, frame.aggregate_id)


def _differences(log: Mapping[int, bytes], archive: Mapping[int, bytes]) -> list[Flaw]:
    return [
        Flaw(
            version,
            f"version {version}: log and archive differ (sha256 {digest(log[version])[:12]}… and "
            f"{digest(archive[version])[:12]}…)",
        )
        for version in sorted(log.keys() & archive.keys())
        if log[version] != archive[version]
    ]


def _gaps(frames: Mapping[int, Envelope]) -> list[Flaw]:
    if not frames:
        return [Flaw(None, "there is no such run")]
    flaws = []
    for before, after in pairwise([0, *sorted(frames)]):
        if after > before + 1:
            which = (
                f"version {after - 1} is"
                if after == before + 2
                else f"versions {before + 1} to {after - 1} are"
            )
            flaws.append(Flaw(before + 1, f"{which} in neither log nor archive"))
    return flaws


def _chain(bodies: Mapping[int, bytes], frames: Mapping[int, Envelope]) -> list[Flaw]:
    flaws = []
    for version, frame in sorted(frames.items()):
        if version == 1:
            expected = FIRST_HASH
        elif version - 1 in bodies:
            expected = digest(bodies[version - 1])
        else:
            continue  # A gap, told above, or the tombstone of a history that the archive has.
        if frame.prev_hash != expected:
            flaws.append(
                Flaw(version, f"version {version}: prev_hash is not the hash of the commit before it")
            )
    return flaws
