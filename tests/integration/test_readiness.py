"""Every service says what an operator must know of how it runs."""

from pathlib import Path

import pytest
from msgspec import structs

from deploy.servers import PostgresAddress, Servers
from deploy.testing.embedded import NatsServer
from tests.integration.gateways import SERVICES, ask, open_stack


@pytest.mark.parametrize("unsafe", [True, False])
async def test_every_service_tells_that_a_power_cut_would_lose_what_was_accepted(
    database: PostgresAddress, streams: NatsServer, servers: Servers, tmp_path: Path, *, unsafe: bool
) -> None:
    async with open_stack(database, streams, servers.redis_url, tmp_path) as stack:
        for name in SERVICES:
            stack.settings[name] = structs.replace(stack.settings[name], unsafe_fast=unsafe)
        await stack.start("orchestrator", "projections", "executor", "gateway")
        await stack.start_process("ingress")
        for name in SERVICES:
            told = (await ask(stack.port(name), "GET", "/readyz")).json
            assert told["status"] == "ready"
            assert ("unsafe-fast" in "".join(told.get("notes", ()))) is unsafe, name
