"""Whatever befalls the processes, an event that a trigger follows starts one run, and none starts two."""

from collections import Counter

import pytest
from msgspec import structs

from contracts.runs import RunStarted
from tests.mutants.extreme_stories import followed
from tests.promises.evidence import Evidence
from tests.simulation.installation import Installation
from tests.simulation.schedule import STORM, lived, quiet

BLOCKS, BLOCK = 4, 25
RATES = structs.replace(STORM, killed=0.02)


def played(seed: int) -> Evidence:
    schedule, evidence = lived(Installation(seed, followed(seed), RATES))
    assert not schedule.violations, f"seed {seed}: {[str(each) for each in schedule.violations]}"
    return evidence


@pytest.mark.parametrize("block", range(BLOCKS))
def test_each_event_that_a_trigger_follows_starts_one_run(block: int) -> None:
    seen: Counter[str] = Counter()
    with quiet():
        for seed in range(block * BLOCK, (block + 1) * BLOCK):
            evidence = played(seed)
            for history in evidence.histories():
                start = history.start
                if isinstance(start, RunStarted) and start.cause.kind in ("run", "event"):
                    seen[start.cause.kind] += 1
                    seen["deep"] += start.cause.depth > 1
            seen["loops"] += sum("a loop:" in hook.reason for hook in evidence.hooks)
            seen["filters"] += sum("the filter:" in hook.reason for hook in evidence.hooks)
    assert all(seen[kind] for kind in ("run", "event", "deep", "loops", "filters")), dict(seen)
