"""What happens while a stack starts is refused in words where a person must help, and never ends the supervisor."""

import json
import subprocess
from collections.abc import Awaitable, Callable
from pathlib import Path

import msgspec
import nats
import pytest

from chassis import access
from chassis.settings import Settings
from deploy.data_directory import DataDirectory
from deploy.keys import Keys
from deploy.refusals import Refused
from deploy.servers import PostgresAddress, Servers
from deploy.servers.nats import nats_binary
from deploy.stack import SERVICES, Stack
from deploy.testing.embedded import NatsServer
from deploy.wiring import accounts, bring_streams, hooks, make_first_key, pools_of

FREE = "nats://127.0.0.1:9"
"""Where nobody listens."""


def data_in(folder: Path) -> DataDirectory:
    for name in ("secrets/nats", "secrets/postgres"):
        (folder / name).mkdir(parents=True)
    return DataDirectory(root=folder, instance="000000000000")


def test_every_service_and_the_operator_have_a_user_and_programs_outside_one_of_their_own() -> None:
    names = hooks().nats_users
    assert set(names) == {
        "supervisor",
        *(service.name for service in SERVICES),
        access.outsider(access.FIRST_ORG),
    }


def test_nats_server_takes_the_accounts_that_are_written_for_it(tmp_path: Path) -> None:
    configuration = tmp_path / "nats.conf"
    configuration.write_text(accounts(data_in(tmp_path / "data")))
    done = subprocess.run(
        [str(nats_binary()), "-t", "-c", str(configuration)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr


async def test_a_stream_that_does_not_fit_is_refused_by_name(
    start_nats: Callable[..., Awaitable[NatsServer]],
) -> None:
    server = await start_nats()
    client = await nats.connect(server.url)
    stream = {"name": "RUNS", "subjects": ["run.*.*"], "storage": "memory", "num_replicas": 1}
    await client.request("$JS.API.STREAM.CREATE.RUNS", json.dumps(stream).encode())
    await client.close()
    with pytest.raises(Refused, match="RUNS: storage is 'memory' and this release wants 'file'"):
        await bring_streams(Settings(nats_url=server.url))


async def test_a_user_that_nats_server_does_not_know_is_refused_in_words(
    tmp_path: Path, start_nats: Callable[..., Awaitable[NatsServer]]
) -> None:
    server = await start_nats(accounts=accounts(data_in(tmp_path / "data")))
    stranger = data_in(tmp_path / "other")
    accounts(stranger)
    seed = stranger.secrets / "nats/supervisor.seed"
    with pytest.raises(Refused, match="nats-server refuses the user of supervisor"):
        await bring_streams(Settings(nats_url=server.url, nats_seed_file=str(seed)))


async def test_a_service_is_started_also_while_nats_server_is_away(tmp_path: Path) -> None:
    stack = Stack(
        data=data_in(tmp_path),
        servers=Servers(
            nats_url=FREE,
            nats_monitor_url="",
            nats_version="",
            nats_staging="",
            postgres=PostgresAddress(host="", port=0, database="", user="", password_file=""),
            redis_url="",
            smtp_host="",
            smtp_port=0,
        ),
        settings=Settings(),
        users={},
    )
    before = hooks().before_service
    assert before is not None
    await before(stack, "orchestrator")
    await before(stack, "ingress")


async def test_a_key_file_without_a_key_is_refused_and_not_overwritten(tmp_path: Path) -> None:
    data = data_in(tmp_path)
    path = data.secrets / "first-api-key"
    path.write_text("nonsense")
    settings = msgspec.structs.replace(Settings(), master_key_file=str(Keys(data).master_key))
    with pytest.raises(Refused, match="there is no API key in it"):
        await make_first_key(settings, path)
    assert path.read_text() == "nonsense"


def test_the_pools_are_those_of_the_settings() -> None:
    assert pools_of(Settings()) == ("default",)
    assert pools_of(msgspec.structs.replace(Settings(), pools="default, slow ,")) == ("default", "slow")
