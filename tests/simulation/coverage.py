"""What schedules have seen: events, nodes, misfortunes of each store, and what is rare. `python -m tests.simulation.coverage`.

Nothing that is not seen here was tested by the simulation, whatever its number of schedules.
"""

import argparse
import sys
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Final

from contracts import runs
from contracts.gates import ALL_RUNS, SlotWanted
from contracts.workflows import Flow
from orchestrator.paths import node_of, numbers
from tests.promises.evidence import Evidence, History
from tests.simulation.clients import SESSION
from tests.simulation.installation import Installation

EVENTS: Final = frozenset(
    str(kind.__struct_config__.tag)
    for kind in runs.RunEvent.__args__  # type: ignore[attr-defined]  # A union's members.
)
STORES: Final = (
    "MemoryLog",
    "MemoryInbox",
    "MemoryTasks",
    "MemoryBlobs",
    "MemoryLetters",
    "MemoryModels",
    "Disk",
    "MemoryArchive",
    "MemoryShelf",
    "MemoryStreams",
    "MemoryRunIds",
    "MemoryStragglers",
    "Outside",
)
"""Every store whose operations can fail, by the name of its fake."""


def seen_in(installation: Installation, evidence: Evidence) -> Counter[str]:
    """What one schedule has seen."""
    seen = Counter[str]()
    for history in evidence.histories():
        for event in history.events:
            seen[f"event {tag(event)}"] += 1
        _see_steps(history, evidence, seen)
    for (store, kind), count in installation.world.struck_at.items():
        seen[f"fault {store} {kind}"] += count
    for entry in evidence.ledger:
        seen[f"delivery {'forged ' if entry.forged else ''}{entry.result} {entry.status or ''}".strip()] += 1
    for wish in evidence.wishes:
        seen[f"wish {wish.kind} {wish.resolution}".strip()] += 1
    _see_rarities(installation, evidence, seen)
    return seen


def tag(event: object) -> str:
    return str(type(event).__struct_config__.tag)  # type: ignore[attr-defined]  # Every event is a struct with a tag.


def _see_steps(history: History, evidence: Evidence, seen: Counter[str]) -> None:
    plan = evidence.plans.get(history.start.plan) if history.start is not None else None
    if plan is None:
        return
    nodes = {node.id: node for node in plan.nodes}
    for path, step in history.state.steps.items():
        node = nodes[node_of(path)]
        seen[f"node {node.type} {step.status}"] += 1
        seen[f"step {len(numbers(path))} deep {step.status}"] += 1
        if node.type == "merge":
            how = "first" if node.config.get("mode") == "first" else node.config.get("output", "object")
            seen[f"merge {node.join} {how} {step.status}"] += 1
        if len([edge for edge in plan.edges if edge.target == node.id]) > 1:
            seen[f"join {node.join} {step.status}"] += 1
    for edge in plan.edges:
        source = history.state.steps.get(edge.source)
        if source is not None and edge.port in (source.ports or ()):
            seen[f"port {nodes[edge.source].type} {edge.port}"] += 1


def _see_rarities(installation: Installation, evidence: Evidence, seen: Counter[str]) -> None:
    log = installation.runs
    seen["commits appended together"] += log.together
    seen["attempts that were held"] += sum(lanes.held_ever for lanes in installation.lanes)
    seen["pauses that began"] += installation.pauser.began
    seen["executors that were to be sent home"] += installation.sent_home
    seen["polls"] += sum(timed.polls for timed in installation.story.clocks)
    seen["appends that lost a race"] += log.conflicts
    seen["claims refused"] += installation.effects.conflicts
    seen["histories that left the log"] += len(installation.models.purged)
    seen["segments that left the log"] += len(installation.models.let_go)
    seen["tombstones that left the log"] += len(installation.models.forgotten)
    seen["questions to the archive's ids"] += len(installation.run_ids.asked)
    seen["dead letters"] += len(evidence.dead_letters)
    seen["takeovers of a partition"] += sum(installation.inbox.terms)
    seen["limits of an org that were changed"] += installation.warden.changes
    seen["deliveries that ran again"] += len(evidence.again)
    seen["messages of a talk that were answered"] += sum(
        entry.answer is not None and entry.key.startswith(SESSION) for entry in evidence.ledger
    )
    for history in evidence.histories():
        _see_beginning(history, evidence, seen)
        seen[f"run {history.state.status}"] += 1
        if history.state.opening > 1:
            seen["runs reopened"] += 1


def _see_beginning(history: History, evidence: Evidence, seen: Counter[str]) -> None:
    start = history.start
    plan = evidence.plans.get(start.plan) if start is not None else None
    if start is None or plan is None:
        return
    seen[f"started by {start.cause.kind}"] += 1
    for node in plan.nodes:
        seen["pauses until a moment"] += "until" in node.config and node.type == "delay"
    seen[f"org {history.org}"] += 1
    seen["runs of another priority"] += plan.flow is not None and plan.flow.priority != Flow().priority
    seen["children of a second version"] += start.parent is not None and start.version > 1
    pinned = {node.id for node in plan.nodes if node.type == "workflow.run" and "version" in node.config}
    for event in history.events:
        match event:
            case runs.SlotRefused():
                seen[f"slot refused: {event.why}"] += 1
            case runs.SlotTaken():
                seen["gates that were passed"] += 1
            case runs.WaitOpened(slot=SlotWanted() as slot):
                seen["runs at the gate of all runs"] += slot.name == ALL_RUNS
                seen["gates with a key"] += slot.key != ""
            case runs.ChildAsked():
                seen["children of a version that was named"] += node_of(event.step) in pinned


def table(seen: Mapping[str, int]) -> str:
    return "\n".join(f"{count:>10,}  {name}" for name, count in sorted(seen.items()) if count)


def main(arguments: Sequence[str]) -> int:
    from tests.simulation.schedule import play, quiet

    parser = argparse.ArgumentParser(prog="python -m tests.simulation.coverage", description=__doc__)
    parser.add_argument("--seeds", default="0:2000", help="FIRST:LAST, the last one left out")
    first, _, last = parser.parse_args(arguments).seeds.partition(":")
    seen = Counter[str]()
    with quiet():
        for seed in range(int(first), int(last)):
            played = play(seed)
            seen.update(played.seen)
            seen.update(f"fault {fault.kind}" for _, fault in played.struck)
    sys.stdout.write(table(seen) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
