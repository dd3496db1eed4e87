"""What is promised about atomic batches that are staged in memory, and about the disk under nats-server."""

import asyncio
import json
import os
import subprocess
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path

import nats
import pytest
from nats.aio.client import Client

from deploy.data_directory import DataDirectory
from deploy.servers.nats import Nats, NatsOptions
from deploy.servers.staging import SHARED_MEMORY, Staging
from deploy.supervisor import Backoff, Supervisor
from deploy.testing.embedded import NatsServer

BATCHED = {
    "name": "RUNS",
    "subjects": ["run.*"],
    "storage": "file",
    "allow_atomic": True,
    "allow_direct": True,
}


@pytest.fixture
async def staged(start_nats: Callable[..., Awaitable[NatsServer]]) -> NatsServer:
    """A nats-server with a stream whose batches are staged in memory."""
    server = await start_nats(batch_streams=("RUNS", "DOMAIN"))
    client = await nats.connect(server.url)
    await client.request("$JS.API.STREAM.CREATE.RUNS", json.dumps(BATCHED).encode())
    await client.close()
    server.link_staging()
    return server


def link(server: NatsServer) -> Path:
    return server.store / "jetstream/$G/streams/RUNS/batches"


async def publish(client: Client, batch: str, size: int, *, committed: bool = True) -> dict[str, object]:
    """Send an atomic batch; the answer to its last message."""
    answer = b"{}"
    for number in range(1, size + 1):
        headers = {"Nats-Batch-Id": batch, "Nats-Batch-Sequence": str(number)}
        if number == size and committed:
            headers["Nats-Batch-Commit"] = "1"
        answer = (await client.request(f"run.{batch}{number}", b"x", headers=headers)).data or b"{}"
    decoded: dict[str, object] = json.loads(answer)
    return decoded


async def messages(client: Client) -> int:
    return (await client.jetstream().stream_info("RUNS")).state.messages


async def test_a_batch_is_staged_in_memory_and_stored_on_disk(staged: NatsServer) -> None:
    assert staged.staging == "in memory: RUNS"
    assert link(staged).readlink().is_relative_to(SHARED_MEMORY)
    client = await nats.connect(staged.url)
    await publish(client, "half", 3, committed=False)
    assert len(list(link(staged).readlink().iterdir())) == 1
    assert (await publish(client, "whole", 5))["count"] == 5
    assert await messages(client) == 5
    await client.close()


@pytest.mark.parametrize("end", ["kill", "stop"])
async def test_the_link_is_made_again_after_each_start_and_nothing_is_lost(
    staged: NatsServer, end: str
) -> None:
    url = staged.url
    client = await nats.connect(url)
    await publish(client, "whole", 5)
    await publish(client, "half", 3, committed=False)
    await client.close()
    await getattr(staged, end)()
    await staged.start()
    assert staged.url == url
    assert link(staged).is_symlink()
    assert list(link(staged).readlink().iterdir()) == []
    client = await nats.connect(url)
    assert await messages(client) == 5
    assert (await publish(client, "after", 4))["count"] == 4
    await client.close()


async def test_a_batch_that_came_before_the_link_does_no_harm(
    start_nats: Callable[..., Awaitable[NatsServer]],
) -> None:
    server = await start_nats(batch_streams=("RUNS",))
    client = await nats.connect(server.url)
    await client.request("$JS.API.STREAM.CREATE.RUNS", json.dumps(BATCHED).encode())
    await publish(client, "early", 3)
    await publish(client, "half", 3, committed=False)
    assert not link(server).is_symlink()
    server.link_staging()
    assert (await publish(client, "late", 3))["count"] == 3
    assert await messages(client) == 6
    assert link(server).is_symlink()
    await client.close()


async def test_the_folder_in_memory_goes_with_the_server(staged: NatsServer) -> None:
    folder = link(staged).readlink().parents[1]
    assert folder.parent == SHARED_MEMORY
    await staged.close()
    assert not folder.exists()


def test_the_folder_of_a_killed_start_is_removed_by_the_next(tmp_path: Path) -> None:
    (tmp_path / "store/jetstream/APP/streams/RUNS").mkdir(parents=True)
    memory = tmp_path / "memory"
    memory.mkdir()
    for _ in range(2):
        staging = Staging(tmp_path / "store", ["RUNS"], memory=memory)
        staging.link("2.15.1")
        assert staging.state == "in memory: RUNS"
    assert len(list(memory.iterdir())) == 1
    staging.forget()
    assert list(memory.iterdir()) == []


def test_a_record_that_points_elsewhere_removes_nothing(tmp_path: Path) -> None:
    victim = tmp_path / "automateos-victim"
    victim.mkdir()
    (tmp_path / "staging").write_text(str(victim))
    Staging(tmp_path / "store", ["RUNS"], memory=tmp_path / "memory").forget()
    assert victim.exists()


@pytest.mark.parametrize(
    ("version", "memory", "reason"),
    [
        ("2.16.0", SHARED_MEMORY, "2.16.0 is not on the list"),
        ("2.15.1", Path("/nowhere"), "there is no /nowhere"),
    ],
)
def test_without_the_link_the_state_says_why(tmp_path: Path, version: str, memory: Path, reason: str) -> None:
    (tmp_path / "store/jetstream/APP/streams/RUNS").mkdir(parents=True)
    staging = Staging(tmp_path / "store", ["RUNS"], memory=memory)
    staging.link(version)
    assert staging.state.startswith("on disk: ")
    assert reason in staging.state
    assert list((tmp_path / "store/jetstream/APP/streams/RUNS").iterdir()) == []


class Watched:
    """A nats-server under a supervisor, and what was said about it."""

    def __init__(self, root: Path, max_file_store: str = "") -> None:
        self.said: list[str] = []
        data = DataDirectory(root=root, instance="000000000000")
        for folder in (data.nats, data.logs, data.run):
            folder.mkdir()
        self.log = data.logs / "nats.log"
        self.nats = Nats(
            data, options=NatsOptions(max_file_store=max_file_store), env=os.environ, say=self.said.append
        )
        self.supervisor = Supervisor(run=data.run, say=self.said.append, backoff=Backoff(first=0.01))

    async def says(self, words: str) -> None:
        async with asyncio.timeout(60):
            while not any(words in line for line in self.said):
                await asyncio.sleep(0.01)


async def test_the_first_error_of_the_disk_stops_nats_server_for_good(tmp_path: Path) -> None:
    watched = Watched(tmp_path)
    async with watched.supervisor as supervisor:
        await supervisor.start([watched.nats.child()])
        with watched.log.open("a") as log:
            log.write("[1] 2026/01/01 [INF] a client called 'input/output error' came\n")
            log.write(
                "[1] 2026/01/01 [ERR] JetStream failed to store a msg: write 7.blk: input/output error\n"
            )
        await watched.says("THE DISK FAILS")
        await watched.says("was ended by SIGKILL")
        await asyncio.sleep(0.3)
        assert supervisor.pids() == {}
    assert sum("ready" in line for line in watched.said) == 1


async def test_what_was_in_the_log_before_a_start_stops_nothing(tmp_path: Path) -> None:
    watched = Watched(tmp_path)
    watched.log.write_text("[1] 2026/01/01 [ERR] Critical write error: read-only file system\n")
    async with watched.supervisor as supervisor:
        await supervisor.start([watched.nats.child()])
        await asyncio.sleep(0.5)
        assert "nats" in supervisor.pids()


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A volume of 96 MB of its own."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=96m", "tmpfs", str(folder)]
    done = subprocess.run(mount, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        pytest.skip(f"a volume of one's own needs rights that this user lacks: {done.stderr.strip()}")
    try:
        yield folder
    finally:
        subprocess.run(["umount", str(folder)], check=True)


async def test_a_full_disk_stops_nats_server_until_there_is_room(small_disk: Path) -> None:
    watched = Watched(small_disk, max_file_store="1GB")
    async with watched.supervisor as supervisor:
        await supervisor.start([watched.nats.child()])
        client = await nats.connect(watched.nats.url, max_reconnect_attempts=-1, reconnect_time_wait=0.05)
        stream = client.jetstream(timeout=1)
        await stream.add_stream(name="RUNS", subjects=["run.*"])
        await stream.publish("run.before", b"kept")
        ballast = small_disk / "ballast"
        fill(ballast)
        for _ in range(200):
            try:
                await stream.publish("run.x", os.urandom(100_000))
            except (nats.errors.Error, nats.js.errors.Error):
                break
        await watched.says("the disk is full")
        await watched.says("was ended by SIGKILL")
        ballast.unlink()
        await watched.says("there is room on the disk again")
        await watched.says("ready again")
        stream = client.jetstream(timeout=30)
        assert (await stream.get_msg("RUNS", 1)).data == b"kept"
        assert (await stream.publish("run.after", b"stored")).seq > 1
        await client.close()


def fill(ballast: Path) -> None:
    """Leave a megabyte."""
    free = os.statvfs(ballast.parent)
    with ballast.open("wb") as file:
        os.posix_fallocate(file.fileno(), 0, free.f_bavail * free.f_frsize - 1024 * 1024)
