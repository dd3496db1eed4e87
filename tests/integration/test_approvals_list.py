"""Open questions of a hundred thousand waiting runs: the newest are found at once, page by page, and those of no other org."""

from pathlib import Path

from chassis.postgres import as_org, pool
from chassis.tables import STEPS as STEPS_TABLE
from deploy.servers import PostgresAddress
from gateway.approvals.queries import ID, ApprovalQueries, open_of
from gateway.pages import compiled, newest_first
from tests.migrated import analyzed, migrated

MANY = 100_000
RUNS = """
insert into read.runs (org, id, workflow, week, started, status, last_time, head_version, head_hash, folded_version, epoch, sequence)
select org, 'run-' || n, 'flow-' || n % 3, '2026-11-16', now(), 'waiting', now(), 1, '', 1, 1, n
from generate_series(1, $1::int) n, unnest(array['org_one', 'org_two']) org where org = 'org_one' or n <= 5
"""
STEPS = """
insert into read.steps (org, run, path, node, position, status, asks, asked)
select org, id, 'ask', 'ask', 2, 'waiting', '{"question":"Pay ' || sequence || '?"}', timestamptz '2026-11-21 12:00Z' + sequence / 4 * interval '1 s'
from read.runs
union all select org, id, 'done', 'done', 1, 'succeeded', null, null from read.runs
"""


async def test_the_newest_of_a_hundred_thousand_questions_are_found_by_their_index(
    database: PostgresAddress, tmp_path: Path
) -> None:
    roles = await migrated(database, tmp_path / "passwords")
    async with pool(roles["projector"]) as projector, pool(roles["gateway"]) as gateway:
        await projector.execute(RUNS, MANY)
        await projector.execute(STEPS)
        await analyzed(database, "read.runs", "read.steps")
        queries = ApprovalQueries(gateway)
        first = await queries.open("org_one", None, None, None, 3)
        second = await queries.open("org_one", None, None, first.next, 3)
        # Four each have the same moment: the id decides, and no page skips or doubles.
        asked = [each.question for each in (*first.items, *second.items)]
        newest = sorted(range(MANY - 3, MANY), key=lambda n: f"run-{n}/ask", reverse=True)
        assert asked == [f"Pay {n}?" for n in (MANY, *newest, MANY - 4, MANY - 5)]
        assert {each.workflow for each in (await queries.open("org_one", None, "flow-1", None, 3)).items} == {
            "flow-1"
        }
        [one] = (await queries.open("org_one", "run-7", None, None, 10)).items
        assert (one.run, one.step, one.question) == ("run-7", "ask", "Pay 7?")
        assert len((await queries.open("org_two", None, None, None, 50)).items) == 5
        assert (await queries.open("org_two", "run-7", None, None, 10)).items == []
        text, values = compiled(newest_first(open_of("org_one"), STEPS_TABLE.c.asked, ID, None, 50))
        async with as_org(gateway, "org_one") as connection:
            plan = "\n".join(row[0] for row in await connection.fetch(f"explain {text}", *values))
    assert "steps_asking" in plan, plan
    assert "Seq Scan" not in plan, plan
