"""Finds in the read models who should have moved by now."""

from collections.abc import Sequence
from datetime import datetime
from typing import Final

from chassis.postgres import Pool, connected
from projections.sweeper import Key, Straggler

_DUE: Final = """
select org, id, sequence from read.runs
where ended is null and look_at < $1 and (org, id) > ($2, $3) order by org, id limit $4
"""


class PostgresStragglers:
    """`runs.look_at` says it all: the fold worked it out."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool

    async def due(self, at: datetime, after: Key | None, most: int) -> Sequence[Straggler]:
        async with connected(self._pool) as connection:
            rows = await connection.fetch(_DUE, at, *(after or ("", "")), most)
        return [Straggler(*row.values()) for row in rows]
