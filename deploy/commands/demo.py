"""`automateos demo`: a real webhook becomes a run, step by step, before your eyes."""

from typing import TYPE_CHECKING

from deploy.commands.here import ORG, Asked

if TYPE_CHECKING:
    from deploy.demo import Shown


def demo(*, here: Asked) -> None:
    """Send a signed webhook three times and watch the one run it causes. Starts a stack when none runs here."""
    import asyncio

    from deploy.demo import a_stack, show
    from deploy.stack import running_stack

    with a_stack(here) as running:
        shown = show(here, running)
        asyncio.run(_tell(here, shown))
    first = "" if running_stack(here.data_dir()) else "`automateos up` starts it again; then "
    here.say(f"To look again: {first}`automateos runs events {shown.run}`, or show, replay, verify.")


async def _tell(here: Asked, shown: "Shown") -> None:
    """The timeline from the log, the read model, the answers to the duplicates."""
    from deploy.demo import mails
    from deploy.operator import timeline
    from deploy.operator.histories import graph_of, judged, read
    from deploy.operator.reach import stores
    from deploy.operator.replays import divergence_lines
    from deploy.operator.views import run_lines
    from deploy.refusals import Refused
    from orchestrator.history import replay

    first, *others = shown.answers
    here.say(f"\nThe delivery was answered with {first.status} {first.body.decode()}")
    async with stores(here) as found:
        history = await read(found, ORG, shown.run)
        graph = await graph_of(found, history)
        verdict = await judged(found, ORG, shown.run)
    here.say("\nWhat the log says of the run, event by event:\n")
    events = list(timeline.numbered(history.commits))
    for each in events:
        here.say(timeline.line(each, history.commits[0].time))
    divergence = replay(ORG, shown.run, history.commits, graph)
    here.say(f"\n{divergence_lines(shown.run, len(events), divergence)[0]}")
    if divergence is not None or verdict.problems:
        raise Refused(f"The history of run {shown.run} is not whole: `automateos runs verify {shown.run}`.")
    here.say("\nWhat the read models say of it:\n")
    for line in run_lines(shown.view, shown.steps):
        here.say(line)
    here.say(f"\nThe mail it sent lies in {mails(here)[-1]}")
    here.say("\nThe same delivery twice more started nothing:\n")
    for answer in others:
        here.say(f"{answer.status} {answer.body.decode()}")
    here.say(f"\nOne delivery, one run: {shown.run}")
