"""`automateos runs`: what the read models say of runs, and what their histories say."""

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Annotated, Any, Final

from cyclopts import App, Parameter

from deploy.commands.here import ORG, Asked, Json, KeyFile, Org, Run

app = App(name="runs", help="Runs: list them, read their histories, replay and verify them.")
app.command("deploy.commands.logs:logs", name="logs", help="Print what the nodes of a run said.")


@app.command(name="list")
def list_(
    *,
    workflow: str | None = None,
    status: str | None = None,
    limit: int = 20,
    key_file: KeyFile = None,
    as_json: Json = False,
    here: Asked,
) -> None:
    """List the newest runs."""
    from deploy.operator.reach import api

    runs = api(here, key_file).pages("/runs", limit, workflow=workflow, status=status)
    here.show(
        runs,
        ("RUN", "STATUS", "WORKFLOW", "STARTED", "STEPS"),
        lambda run: (
            run["id"],
            run["status"],
            run["workflow"],
            run["started"][:19],
            f"{run['steps_done']}/{run['steps_total']}",
        ),
        as_json=as_json,
    )


@app.command
def show(run: Run, *, key_file: KeyFile = None, as_json: Json = False, here: Asked) -> None:
    """Show a run and its steps as the read models have them, and what it waits for."""
    from deploy.operator.reach import api
    from deploy.operator.views import run_lines

    client = api(here, key_file)
    view, steps = client.get(f"/runs/{run}"), client.get(f"/runs/{run}/steps")["items"]
    waiting = [] if view["ended"] else client.get(f"/runs/{run}/waiting")["waiting_for"]
    if as_json:
        here.tell({"run": view, "steps": steps, "waiting_for": waiting})
        return
    for line in run_lines(view, steps, waiting):
        here.say(line)


@app.command
def signal(  # noqa: PLR0913  # Each is an option of the command line.
    run: Run,
    name: Annotated[str, Parameter(help="What the run waits for: the signal of its step.")],
    *,
    body: Annotated[str, Parameter(help="What is said, as JSON; `-` reads standard input.")] = "null",
    key: Annotated[
        str | None, Parameter(help="Said again under the same key it counts once, however often you call.")
    ] = None,
    key_file: KeyFile = None,
    as_json: Json = False,
    here: Asked,
) -> None:
    """Say something to a run that waits for it, or will: the step that listens to the name goes on with it."""
    import sys

    from msgspec import Raw

    from contracts.codec import Malformed, decode_json
    from contracts.limits import IDEMPOTENCY_KEY_CHARS
    from deploy.operator.reach import api
    from deploy.refusals import Refused

    text = sys.stdin.buffer.read() if body == "-" else body.encode()
    try:
        decode_json(text)
    except Malformed as malformed:
        raise Refused(f"The body is no JSON: {malformed}.") from malformed
    if key is not None and not (
        0 < len(key) <= IDEMPOTENCY_KEY_CHARS and key.isascii() and key.isprintable()
    ):
        raise Refused(f"A key is 1 to {IDEMPOTENCY_KEY_CHARS} printable ASCII characters.")
    headers = {} if key is None else {"idempotency-key": key}
    told = api(here, key_file).post(f"/runs/{run}/signals", {"signal": name, "body": Raw(text)}, **headers)
    if as_json:
        here.tell(told)
    else:
        here.say(f"{run}  {name} {_HEARD[told['status']]}")


_HEARD: Final = {
    "accepted": "was said",
    "unchanged": "had been said before under this key",
    "queued": "will be said: the run's owner is away",
}


@app.command
async def events(run: Run, *, org: Org = ORG, as_json: Json = False, here: Asked) -> None:
    """Print a run's history, event by event, from the log and the archive."""
    from deploy.operator import timeline
    from deploy.operator.histories import read
    from deploy.operator.reach import stores

    async with stores(here) as found:
        history = await read(found, org, run)
    began = history.commits[0].time
    for each in timeline.numbered(history.commits):
        if as_json:
            here.tell(timeline.as_json(each))
        else:
            here.say(timeline.line(each, began))


@app.command
async def replay(
    run: Run,
    *,
    at: Annotated[int | None, Parameter(help="Print the state after this event instead.")] = None,
    org: Org = ORG,
    as_json: Json = False,
    here: Asked,
) -> int:
    """Fold a run's history anew and decide at every event again; tell the first place where that gives something else."""
    from deploy.operator.histories import graph_of, read
    from deploy.operator.reach import stores
    from deploy.operator.replays import divergence_lines, state_lines
    from orchestrator.history import replay as decide_anew
    from orchestrator.history import state_at

    async with stores(here) as found:
        history = await read(found, org, run)
        graph = await graph_of(found, history)
    if at is not None:
        state = state_at(org, run, history.commits, at)
        _print(here, state, state_lines(state), as_json=as_json)
        return 0
    divergence = decide_anew(org, run, history.commits, graph)
    count = sum(len(commit.events) for commit in history.commits)
    told = {"run": run, "events": count, "divergence": divergence}
    _print(here, told, divergence_lines(run, count, divergence), as_json=as_json)
    return 0 if divergence is None else 1


def _print(here: Asked, value: Any, lines: list[str], *, as_json: bool) -> None:
    if as_json:
        here.tell(value)
        return
    for line in lines:
        here.say(line)


@app.command
async def tail(
    run: Annotated[
        str | None, Parameter(help="One run's id: ends when the run does. None: every run.")
    ] = None,
    *,
    org: Org = ORG,
    as_json: Json = False,
    here: Asked,
) -> None:
    """Follow what happens, live. Of a run that is named, from its beginning to its end."""
    from deploy.operator.following import follow_all, follow_one
    from deploy.operator.reach import stores

    async with stores(here) as found:
        lines = (
            follow_all(found, org, as_json=as_json)
            if run is None
            else follow_one(found, org, run, as_json=as_json)
        )
        async for line in lines:
            here.say(line)


@app.command
async def verify(
    *runs: Run,
    all_runs: Annotated[bool, Parameter(name="--all", negative="", help="Every run of the org.")] = False,
    org: Org = ORG,
    as_json: Json = False,
    here: Asked,
) -> int:
    """Check versions, hash chain, and that log and archive agree byte for byte."""
    from deploy.operator.histories import every_run, judged
    from deploy.operator.reach import stores
    from deploy.refusals import Refused

    if not runs and not all_runs:
        raise Refused("Name the runs to verify, or say --all.")
    bad = checked = 0
    async with stores(here) as found:
        names = every_run(found, org) if all_runs else _named(runs)
        async for run in names:
            verdict = await judged(found, org, run)
            checked += 1
            bad += bool(verdict.problems)
            if as_json:
                here.tell({"run": run, "verdict": verdict})
            elif verdict.problems:
                for problem in verdict.problems:
                    here.say(f"{run}  {problem}")
            elif not all_runs:
                here.say(
                    f"{run}  whole: {verdict.commits} commits, {verdict.in_log} in the log, "
                    f"{verdict.in_archive} in the archive"
                )
    if all_runs and not as_json:
        here.say(f"{checked} runs verified, {bad} with problems")
    return 1 if bad else 0


@app.command
async def export(
    run: Run,
    *,
    out: Annotated[Path, Parameter(help="The file to write.")],
    anchor: Annotated[
        bool, Parameter(negative="", help="Anchor first what has no anchor yet, so that all of it is proven.")
    ] = False,
    org: Org = ORG,
    here: Asked,
) -> None:
    """Write a run's history with its plan and its proofs; `automateos verify --file` checks it without any server."""
    from deploy.operator import exports, public_key
    from deploy.operator.exporting import anchor_now, exported
    from deploy.operator.reach import stores

    signing_key = here.data_dir() / "secrets" / "signing.key"
    if anchor:
        async with stores(here, "projections") as theirs:
            await anchor_now(theirs, signing_key)
    async with stores(here) as found:
        written = await exported(found, org, run, public_key.public_of(signing_key))
    exports.written(written, out)
    proven = max((proof.version for proof in written.proofs), default=0)
    here.say(
        f"{out}: {len(written.commits)} commits, {proven} of them proven by {len(written.proofs)} anchors"
    )
    if proven < len(written.commits):
        here.say("the rest is anchored within ten minutes, or at once with --anchor")


async def _named(runs: tuple[str, ...]) -> AsyncIterator[str]:
    for run in runs:
        yield run
