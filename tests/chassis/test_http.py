"""The HTTP server as a task, and the small app of services without a public port."""

import asyncio
import json
import ssl
from pathlib import Path

import pytest
import trustme

from chassis.http import health_app, serving, tls_of
from chassis.lifecycle import CannotStart
from chassis.settings import Settings
from chassis.telemetry import Metrics


async def ask(
    port: int, path: str, method: str = "GET", context: ssl.SSLContext | None = None
) -> tuple[int, bytes]:
    name = "localhost" if context else None
    reader, writer = await asyncio.open_connection("127.0.0.1", port, ssl=context, server_hostname=name)
    writer.write(f"{method} {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n".encode())
    head, _, body = (await reader.read()).partition(b"\r\n\r\n")
    writer.close()
    return int(head.split()[1]), body


class Readiness:
    def __init__(self, *reasons: str) -> None:
        self.reasons = list(reasons)

    async def __call__(self) -> list[str]:
        return self.reasons


async def test_a_service_tells_whether_it_lives_is_ready_and_how_much_it_did() -> None:
    ready = Readiness("NATS is away.")
    async with serving(health_app(ready, Metrics("demo")), "127.0.0.1", 0) as server:
        assert await ask(server.port, "/healthz") == (200, b'{"status":"alive"}')
        assert await ask(server.port, "/readyz") == (
            503,
            b'{"status":"waiting","reasons":["NATS is away."]}',
        )
        ready.reasons = []
        assert await ask(server.port, "/readyz") == (200, b'{"status":"ready","reasons":[]}')
        status, figures = await ask(server.port, "/metrics")
        assert (status, b"python_info" in figures) == (200, True)
        assert (await ask(server.port, "/other"))[0] == 404
        assert (await ask(server.port, "/healthz", "POST"))[0] == 404


async def test_whoever_asks_for_readiness_is_told_what_they_should_know() -> None:
    notes = ("unsafe-fast: a power cut loses what was accepted.",)
    async with serving(health_app(Readiness(), Metrics("demo"), notes), "127.0.0.1", 0) as server:
        status, body = await ask(server.port, "/readyz")
    assert (status, json.loads(body)) == (200, {"status": "ready", "reasons": [], "notes": list(notes)})


async def test_a_port_that_is_taken_is_told_in_one_line() -> None:
    app = health_app(Readiness(), Metrics("demo"))
    async with serving(app, "127.0.0.1", 0) as server:
        with pytest.raises(CannotStart, match=f"cannot listen on 127.0.0.1:{server.port}"):
            async with serving(app, "127.0.0.1", server.port):
                pytest.fail("two servers on one port")


async def test_a_request_under_way_is_answered_before_the_server_ends() -> None:
    entered, leave = asyncio.Event(), asyncio.Event()

    class Slow(Readiness):
        async def __call__(self) -> list[str]:
            entered.set()
            await leave.wait()
            return []

    async with asyncio.TaskGroup() as group:
        async with serving(health_app(Slow(), Metrics("demo")), "127.0.0.1", 0) as server:
            asked = group.create_task(ask(server.port, "/readyz"))
            await entered.wait()
            asyncio.get_running_loop().call_later(0.15, leave.set)
        assert (await asked)[0] == 200
    with pytest.raises(OSError, match="Connect"):
        await ask(server.port, "/healthz")


async def test_with_certificate_and_key_the_server_speaks_tls(tmp_path: Path) -> None:
    authority = trustme.CA()
    issued = authority.issue_cert("localhost")
    chain, key = tmp_path / "chain.pem", tmp_path / "key.pem"
    for blob in issued.cert_chain_pems:
        blob.write_to_path(chain, append=True)
    issued.private_key_pem.write_to_path(key)
    context = ssl.create_default_context()
    authority.configure_trust(context)
    app = health_app(Readiness(), Metrics("demo"))
    async with serving(app, "127.0.0.1", 0, tls=(str(chain), str(key))) as server:
        assert (await ask(server.port, "/healthz", context=context))[0] == 200


async def test_tls_files_that_cannot_be_used_are_a_reason_not_to_start(tmp_path: Path) -> None:
    with pytest.raises(CannotStart, match="TLS files"):
        async with serving(
            health_app(Readiness(), Metrics("demo")), "127.0.0.1", 0, tls=(str(tmp_path / "no"), "")
        ):
            pytest.fail("served without a certificate")


def test_tls_is_spoken_where_there_is_a_certificate() -> None:
    assert tls_of(Settings()) is None
    assert tls_of(Settings(tls_certificate_file="c", tls_key_file="k")) == ("c", "k")
