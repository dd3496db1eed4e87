"""What a campaign says: rounds one by one, their sums, and the senders' ledger, small enough to be kept."""

import json
import lzma
import os
import platform
import re
import subprocess
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, Final

from chassis.ids import digest
from contracts.reference import VERSION
from deploy.servers.nats import nats_binary
from deploy.servers.postgres_home import postgres_binaries
from deploy.servers.redis import redis_binary
from tests.chaos.campaign import Round
from tests.chaos.field import libfaketime
from tests.chaos.striker import Struck, outages
from tests.promises.evidence import Violation
from tests.simulation.blocks import commit_of_the_code

_SUMMED: Final = (
    "faults", "runs", "deliveries", "commits", "events", "effects", "purged", "doubts", "doubts_touched", "ghosts",
    "forged", "badly_refused", "let_in",
    "lost", "duplicated", "stuck", "diverged", "chain_breaks", "rebuilt_differences", "violations",
)  # fmt: skip
_MEANINGS: Final = (
    "violations", "lost", "duplicated", "stuck", "diverged", "chain_breaks", "rebuilt_differences",
    "badly_refused", "let_in",
)  # fmt: skip
"""What violations are counted as. `badly_refused`: refused without a word when to come again, or with a 500 (P11);
`let_in`: forged, and taken (P12)."""
_SHOWN: Final = 50
_AFTERMATH_SECONDS: Final = 3.0


def counted(violations: Iterable[Violation]) -> dict[str, int]:
    """Violations by what they mean."""
    found = Counter[str]()
    for each in violations:
        found["violations"] += 1
        match each.promise:
            case "P1":
                found["lost"] += 1
            case "P2" | "P5":
                found["duplicated"] += 1
            case "P3" | "P9":
                found["stuck"] += 1
            case "P4" if "diverges" in each.what:
                found["diverged"] += 1
            case "P4":
                found["chain_breaks"] += 1
            case "P6":
                found["rebuilt_differences"] += 1
            case "P11":
                found["badly_refused"] += 1
            case "P12":
                found["let_in"] += 1
    return {name: found[name] for name in _MEANINGS}


def told(played: Round) -> dict[str, Any]:
    """One round as it stands in the report."""
    found, outcomes = played.found, played.record.outcomes
    return {
        "round": played.plan.number,
        "commit": commit_of_the_code(),
        "retention_days": played.plan.retention_days,
        "faults": len(played.struck),
        "by_kind": dict(sorted(Counter(each.kind for each in played.struck).items())),
        "runs": found.runs,
        "deliveries": outcomes["invoke"],
        "forged": sum(each.forged for told in played.record.entries.values() for each in told),
        "outcomes": dict(outcomes),
        "statuses": dict(found.by_status),
        "shapes": dict(Counter(played.record.shapes.values())),
        "causes": dict(found.by_cause),
        "answers": sum(map(len, played.record.answered.values())),
        "signals": sum(map(len, played.record.said.values())),
        "commits": found.commits,
        "events": found.events,
        "effects": found.effects,
        "purged": found.purged,
        "ghosts": found.ghosts,
        "doubts": found.doubts,
        "doubts_touched": found.doubts_touched,
        "crashes": crashes(played.struck),
        "back_alone_s": sorted(
            round(each.back - each.at, 2) for each in outages(played.struck) if each.back is not None
        ),
        "moved_on_s": moved_on(played),
        "moved_on_alone_s": moved_on(played, alone=True),
        "peace_s": round(played.peace_s, 1),
        "lasted_s": round(played.lasted_s, 1),
        **counted(found.violations),
        "first_violations": [str(each) for each in found.violations[:_SHOWN]],
        "struck": [_line(each, played) for each in played.struck],
    }


def crashes(struck: Iterable[Struck]) -> dict[str, list[int]]:
    """Of each named place, how often somebody died there, and how often somebody was asked to."""
    found: dict[str, list[int]] = {}
    for each in struck:
        if "place" in each.said:
            counts = found.setdefault(each.said["place"], [0, 0])
            counts[0] += each.said["reached"]
            counts[1] += 1
    return dict(sorted(found.items()))


def _line(each: Struck, played: Round) -> dict[str, Any]:
    moved = [round(late, 2) for moment in _deaths(each) if (late := _moved_on(played, moment)) is not None]
    return {
        "kind": each.kind,
        "name": each.name,
        "at": round(each.began, 2),
        "s": round(each.ended - each.began, 1),
        **{name: value for name, value in each.said.items() if name != "pid"},
        **({"moved_on_s": moved} if moved else {}),
    }


def moved_on(played: Round, *, alone: bool = False) -> list[float]:
    """For each death: seconds until the last of the runs then in flight had moved on.

    `alone`: only deaths that nothing else went wrong beside, from three seconds before until all had moved on.
    """
    found: list[float] = []
    for each in played.struck:
        for moment in _deaths(each):
            late = _moved_on(played, moment)
            if late is not None and not (alone and _crowded(each, played.struck, moment, late)):
                found.append(round(late, 3))
    return sorted(found)


def _deaths(each: Struck) -> list[float]:
    return each.moments() if each.kills else []


def _moved_on(played: Round, moment: float) -> float | None:
    """None: nothing was in flight, or clocks were wrong, and the times of commits say nothing."""
    if any(each.kind == "F13" for each in played.struck):
        return None
    late = [seconds for span in played.found.spans if (seconds := span.late(moment)) is not None]
    return max(0.0, *late, 0.0) if late else None


def _crowded(one: Struck, struck: Sequence[Struck], moment: float, seconds: float) -> bool:
    return any(
        other is not one and other.began < moment + seconds and other.ended > moment - _AFTERMATH_SECONDS
        for other in struck
    )


def summed(rounds: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """All rounds together."""
    sums: dict[str, Any] = {name: sum(each[name] for each in rounds) for name in _SUMMED}
    kinds = Counter[str]()
    for each in rounds:
        kinds.update(each["by_kind"])
    sums["by_kind"] = dict(sorted(kinds.items(), key=lambda item: int(item[0][1:])))
    sums["crashes"] = _crashes_of(rounds)
    for name in ("moved_on", "moved_on_alone", "back_alone"):
        every = sorted(seconds for each in rounds for seconds in each[f"{name}_s"])
        sums |= {
            f"{name}_n": len(every),
            f"{name}_p50_s": share(every, 0.5),
            f"{name}_p99_s": share(every, 0.99),
        }
    sums["peace_max_s"] = max((each["peace_s"] for each in rounds), default=0.0)
    sums["lasted_s"] = round(sum(each["lasted_s"] for each in rounds), 1)
    # The rule of three: no failure in n trials bounds the rate by 3/n, with 95 %.
    if not sums["violations"] and sums["faults"] and sums["runs"]:
        sums |= {"bound_per_fault": 3 / sums["faults"], "bound_per_run": 3 / sums["runs"]}
    return sums


def _crashes_of(rounds: Iterable[dict[str, Any]]) -> dict[str, list[int]]:
    found: dict[str, list[int]] = {}
    for each in rounds:
        for place, (died, asked) in each["crashes"].items():
            before = found.get(place, [0, 0])
            found[place] = [before[0] + died, before[1] + asked]
    return dict(sorted(found.items()))


def share(ordered: Sequence[float], part: float) -> float | None:
    return ordered[min(len(ordered) - 1, int(len(ordered) * part))] if ordered else None


def versions() -> dict[str, str]:
    """What was struck, and where."""
    library = libfaketime()
    return {
        "automateos": VERSION,
        "commit": commit_of_the_code(),
        "python": platform.python_version(),
        "nats_server": _version(nats_binary(), r"v([\d.]+)"),
        "postgres": postgres_binaries().version,
        "redis": _version(redis_binary(), r"v=([\d.]+)"),
        # It does not say its version.
        "libfaketime": f"sha256 {digest(Path(library).read_bytes())[:12]}" if library else "none",
        "kernel": platform.release(),
        "cores": str(os.cpu_count()),
    }


def _version(program: Path, pattern: str) -> str:
    said = subprocess.run([str(program), "--version"], capture_output=True, text=True, check=True, timeout=10)
    found = re.search(pattern, said.stdout)
    return found[1] if found else said.stdout.strip()


def keep_ledger(path: Path, played: Round) -> None:
    """Every line of the senders' ledger, short: key, shape, what, status, when after the first one, seconds."""
    began = min((line[4] for line in played.record.short), default=0.0)
    with lzma.open(path, "at") as file:
        for key, shape, what, status, when, seconds in played.record.short:
            line = [key, shape, what, status, round(when - began, 2), seconds]
            file.write(json.dumps(line, separators=(",", ":")) + "\n")
