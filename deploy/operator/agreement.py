"""Whether a run's history is whole: versions without a gap, hashes that chain, and a log and an archive that agree.

Everything is judged by the stored bytes: a commit's hash is that of its bytes, and two copies agree when their bytes do.
"""

from collections.abc import Mapping, Sequence
from itertools import pairwise

from msgspec import Struct

from chassis.ids import digest
from contracts.codec import Malformed, decode_envelope
from contracts.commits import FIRST_HASH, Envelope


class Verdict(Struct, frozen=True, kw_only=True):
    """What was compared, and everything that is wrong with it."""

    commits: int
    """How many commits the whole history has."""
    in_log: int
    in_archive: int
    problems: tuple[str, ...] = ()


class _Copy(Struct, frozen=True, kw_only=True):
    """One place's copy: the bytes by version, and how they are framed."""

    bodies: Mapping[int, bytes]
    frames: Mapping[int, Envelope]
    problems: tuple[str, ...]


def verdict(log: Sequence[bytes], archive: Sequence[bytes] | None) -> Verdict:
    """Judge one run's commits, oldest first. `archive` is None when it could not be asked."""
    ours, theirs = _copy("log", log), _copy("archive", archive or ())
    bodies = {**theirs.bodies, **ours.bodies}
    frames = {**theirs.frames, **ours.frames}
    problems = [*ours.problems, *theirs.problems, *_differences(ours.bodies, theirs.bodies)]
    if archive is not None:
        problems += _gaps(frames)
        problems += _chain(bodies, frames)
    else:
        problems += _chain(ours.bodies, ours.frames)
    return Verdict(
        commits=len(bodies),
        in_log=len(ours.bodies),
        in_archive=len(theirs.bodies),
        problems=tuple(problems),
    )


def _copy(place: str, stored: Sequence[bytes]) -> _Copy:
    bodies: dict[int, bytes] = {}
    frames: dict[int, Envelope] = {}
    problems: list[str] = []
    for body in stored:
        try:
            frame = decode_envelope(body)
        except Malformed as malformed:
            problems.append(f"{place}: a commit cannot be read ({malformed})")
            continue
        if frame.version in bodies:
            problems.append(f"{place}: version {frame.version} is there twice")
        bodies[frame.version], frames[frame.version] = body, frame
    problems += [
        f"{place}: version {before} is followed by {after}"
        for before, after in pairwise(sorted(bodies))
        if after != before + 1
    ]
    return _Copy(bodies=bodies, frames=frames, problems=tuple(problems))


def _differences(log: Mapping[int, bytes], archive: Mapping[int, bytes]) -> list[str]:
    return [
        f"version {version}: log and archive differ (sha256 {digest(log[version])[:12]}… and "
        f"{digest(archive[version])[:12]}…)"
        for version in sorted(log.keys() & archive.keys())
        if log[version] != archive[version]
    ]


def _gaps(frames: Mapping[int, Envelope]) -> list[str]:
    if not frames:
        return ["there is no such run"]
    missing = sorted(set(range(1, max(frames) + 1)) - frames.keys())
    return [f"version {version} is in neither log nor archive" for version in missing]


def _chain(bodies: Mapping[int, bytes], frames: Mapping[int, Envelope]) -> list[str]:
    problems = []
    for version, frame in sorted(frames.items()):
        if version == 1:
            expected = FIRST_HASH
        elif version - 1 in bodies:
            expected = digest(bodies[version - 1])
        else:
            continue  # A gap, told above, or the tombstone of a history that the archive has.
        if frame.prev_hash != expected:
            problems.append(f"version {version}: prev_hash is not the hash of the commit before it")
    return problems
