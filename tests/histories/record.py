"""Records the histories of this release: `python -m tests.histories.record`.

What is recorded is never recorded again. When a release is made, or when it has learnt something new (an event type, a
node), a new file is added with the scenes that no file has yet, and with schedules that show what no file shows: `--name`
says how it is called, `--seeds` where it looks.
"""

import argparse
import sys
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence, Set
from typing import Final

from chassis.ports import Stored
from contracts.codec import encode
from contracts.reference import VERSION
from contracts.runs import RunEvent, RunStarted
from orchestrator.history import replay, state_at
from tests.histories.corpus import Recorded, recorded, write
from tests.histories.scenes import SCENES
from tests.histories.stage import play
from tests.simulation.installation import Installation
from tests.simulation.schedule import STORM, lived, quiet
from tests.simulation.workflows import story

SEEDS: Final = range(400)
OF_SCHEDULES: Final = 45
_LARGEST: Final = 16_000


def main(arguments: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.histories.record", description=__doc__)
    parser.add_argument("--name", default="runs", help="the file's name in the folder of this release")
    parser.add_argument("--seeds", type=int, default=len(SEEDS), help="how many schedules to choose from")
    parser.add_argument("--most", type=int, default=OF_SCHEDULES, help="how many of them to keep")
    options = parser.parse_args(arguments)
    known = list(recorded(VERSION))
    names, shown = {run.name for run in known}, {trait for run in known for trait in traits(run)}
    with quiet():
        new = list(scenes(names))
        shown |= {trait for run in new for trait in traits(run)}
        runs = [*new, *chosen(schedules(range(options.seeds)), shown, options.most)]
    path = write(VERSION, options.name, runs)
    sys.stdout.write(f"{len(runs)} runs in {path}, {path.stat().st_size} bytes\n")
    return 0


def scenes(known: Set[str]) -> Iterator[Recorded]:
    """Those that nobody has recorded yet."""
    for number, scene in enumerate(SCENES, 1):
        if scene.name not in known:
            yield play(number, scene)


def schedules(seeds: Iterable[int]) -> Iterator[Recorded]:
    """Every run of some schedules of the simulation, as far as it is short."""
    for seed in seeds:
        installation = Installation(seed, story(seed), STORM)
        played, _ = lived(installation)
        if played.failed:
            continue  # What broke a promise is for the simulation to tell, and nothing to keep for ever.
        histories = defaultdict[str, list[Stored]](list)
        for stored in installation.runs.messages:
            histories[stored.subject].append(stored)
        for subject, messages in histories.items():
            if sum(len(message.body) for message in messages) <= _LARGEST:
                yield _recorded(installation, f"schedule {seed}", subject, messages)


def _recorded(installation: Installation, name: str, subject: str, messages: Sequence[Stored]) -> Recorded:
    _, org, run = subject.split(".")
    kept = Recorded(name=name, org=org, run=run, status="", commits=[m.body.decode() for m in messages])
    commits = kept.decoded()
    [started] = [e for commit in commits for e in commit.events if isinstance(e, RunStarted)]
    drawn = installation.plans[started.plan]
    plan = encode(drawn.plan).decode() if drawn.stored and drawn.readable else None
    return Recorded(
        name=name,
        org=org,
        run=run,
        status=state_at(org, run, commits).status,
        plan=plan,
        commits=kept.commits,
    )


def chosen(candidates: Iterable[Recorded], shown: Set[str], most: int) -> list[Recorded]:
    """Those that together show the most: each time the one with most that none before it showed, the shorter one first."""
    left = [(run, traits(run)) for run in candidates]
    seen = set(shown)
    taken = list[Recorded]()
    while len(taken) < most and any(found - seen for _, found in left):
        best = max(left, key=lambda each: (len(each[1] - seen), -len("".join(each[0].commits))))
        left.remove(best)
        seen |= best[1]
        taken.append(best[0])
    assert all(replay(run.org, run.run, run.decoded(), run.graph()) is None for run in taken)
    return taken


def traits(run: Recorded) -> set[str]:
    """What can be seen in a run: its end, its kinds of nodes, and what followed from what."""
    graph = run.graph()
    found = (
        {run.status, *(node.type for node in graph.plan.nodes)} if graph is not None else {run.status, "-"}
    )
    turn = list[str]()
    for commit in run.decoded():
        for event in commit.events:
            if event.is_fact:
                found.add(" ".join(turn))
                turn = []
            if not turn or turn[-1] != tag(event):
                turn.append(tag(event))
    return found | {" ".join(turn)}


def tag(event: RunEvent) -> str:
    return str(type(event).__struct_config__.tag)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
