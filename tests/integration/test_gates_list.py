"""Gates of very many waiting runs, told out of their rows: page by page, in the order in which they come in, and of no other org."""

import json
from pathlib import Path
from typing import Any

import pytest

from chassis.edge.problems import Problem
from chassis.ids import derived
from chassis.postgres import as_org, pool
from contracts.gates import ALL_RUNS, GateLimit, OrgLimit
from deploy.servers import PostgresAddress
from gateway.gates.queries import GateQueries, places_of
from gateway.pages import compiled
from gateway.rejected import Rejected
from tests.migrated import analyzed, migrated

MANY = 4_000
"""Of twenty times as many runs, most of which wait at no gate."""
RUNS = """
insert into read.runs (org, id, workflow, week, started, opened, status, last_time, head_version, head_hash, folded_version, epoch, sequence, gates)
select org, 'run-' || n, 'flow-' || n % 3, '2026-11-16', '2026-11-21 12:00Z'::timestamptz + n / 4 * interval '1 s',
    case when n % 5 = 0 then '2026-11-21 12:00Z'::timestamptz + n / 4 * interval '1 s' end, 'waiting', now(), 1, '', 1, 1, n,
    case when n > $1 then '' else json_build_array(json_build_object(
        'wait', 'slot:1:1', 'gate', 'gate-' || n % 3, 'name', 'crm', 'key', 'k' || n % 3, 'rank', 4 - n % 2, 'bounds', json_build_object('at_once', 1 + n % 1000),
        'inside', n <= 6, 'since', '2026-11-21T12:00:00Z'::timestamptz + n * interval '1 s'
    ))::text end
from generate_series(1, 20 * $1::int) n, unnest(array['org_one', 'org_two']) org where org = 'org_one' or n <= 3
"""


SHARED = "update read.runs set gates = $1 where org = 'org_two' and id = 'run-1'"


def stands(gate: str, name: str) -> dict[str, Any]:
    since = "2026-11-21T12:00:00Z"
    bounds = {"at_once": 1}
    return {
        "wait": gate,
        "gate": gate,
        "name": name,
        "key": "",
        "rank": 4,
        "bounds": bounds,
        "inside": False,
        "since": since,
    }


async def test_gates_are_told_with_who_is_inside_and_who_waits(
    database: PostgresAddress, tmp_path: Path
) -> None:
    roles = await migrated(database, tmp_path / "passwords")
    async with pool(roles["projector"]) as projector, pool(roles["gateway"]) as gateway:
        await projector.execute(RUNS, MANY)
        await analyzed(database, "read.runs")
        queries = GateQueries(gateway)
        first = await queries.list("org_one", {}, None, 2)
        second = await queries.list("org_one", {}, first.next, 2)
        gates = [*first.items, *second.items]
        assert [each.gate for each in gates] == ["gate-0", "gate-1", "gate-2"]
        assert second.next is None
        assert [(each.limit, each.key, each.inside) for each in gates] == [
            ("crm", f"k{n}", 2) for n in range(3)
        ]
        assert sum(each.waiting for each in gates) == MANY - 6
        zero = gates[0]
        assert zero.bounds.at_once == 1 + (MANY // 3 * 3) % 1000, "what the newest says"
        assert (zero.inside_since.second, zero.waiting_since.second) == (3, 9)  # type: ignore[union-attr]  # There is one.
        inside = await queries.at("org_one", "gate-0", "inside", None, 10)
        assert {(each.run, each.standing) for each in inside.items} == {
            ("run-3", "inside"),
            ("run-6", "inside"),
        }
        # By rank, then by when it was opened, then by its id: whoever is asked for by pages is told once.
        told, cursor = list[str](), None
        for _ in range(4):
            page = await queries.at("org_one", "gate-1", None, cursor, 3)
            told += [each.run for each in page.items]
            cursor = page.next
        whole = await queries.at("org_one", "gate-1", None, None, 12)
        assert told == [each.run for each in whole.items]
        assert [each.standing for each in whole.items[:3]] == ["inside", "inside", "waiting"]
        assert whole.items[2].run == "run-7"
        [theirs] = (await queries.at("org_two", "gate-1", None, None, 10)).items
        assert theirs.run == "run-1"
        with pytest.raises(Rejected):
            await queries.at("org_three", "gate-1", None, None, 10)
        with pytest.raises(Problem):
            await queries.at("org_one", "gate-1", None, "bm8", 10)
        assert (await queries.at("org_two", "gate-1", "waiting", None, 10)).items == []
        shared = derived("gate", "org_two", "", "mail", "")
        await projector.execute(SHARED, json.dumps([stands(shared, "mail"), stands("another", "mail")]))
        gates = (await queries.list("org_two", {"mail": OrgLimit(at_once=9)}, None, 50)).items
        told_of = {each.gate: each.bounds.at_once for each in gates}
        assert (told_of[shared], told_of["another"]) == (9, 1), (
            "what the org says is of the gate that is shared"
        )
        everybodys = derived("gate", "org_two", ALL_RUNS, ALL_RUNS, "")
        await projector.execute(SHARED, json.dumps([stands(everybodys, ALL_RUNS)]))
        for limits, bounds in (({ALL_RUNS: OrgLimit(at_once=9)}, GateLimit(at_once=9)), ({}, GateLimit())):
            gates = (await queries.list("org_two", limits, None, 50)).items
            told_now = [(each.limit, each.bounds) for each in gates if each.gate == everybodys]
            assert told_now == [(ALL_RUNS, bounds)], "what the org says now"
        text, values = compiled(places_of("org_one", "gate-1", None))
        async with as_org(gateway, "org_one") as connection:
            plan = "\n".join(row[0] for row in await connection.fetch(f"explain {text}", *values))
    assert "runs_at_gates" in plan, plan
