"""The ports on JetStream keep the laws of the ports."""

from collections.abc import Callable
from datetime import UTC, datetime
from functools import partial
from typing import Any

import pytest

from contracts.subjects import RUNS
from projections.streams import JetStreamStreams
from tests.integration import port_laws
from tests.integration.conftest import OpenPorts


def named(laws: tuple[Callable[..., Any], ...]) -> pytest.MarkDecorator:
    return pytest.mark.parametrize("law", laws, ids=lambda law: law.__name__)


@named(port_laws.LOG_LAWS)
@pytest.mark.parametrize("batch_from", [16, 1], ids=["alone", "in batches"])
async def test_the_log_keeps_its_laws(
    open_ports: OpenPorts, law: Callable[..., Any], batch_from: int
) -> None:
    async with open_ports(batch_from=batch_from) as ports:
        await law(ports.log, "place")


@named(port_laws.LOG_LAWS)
async def test_the_log_keeps_its_laws_when_it_reads_from_the_leader_only(
    open_ports: OpenPorts, law: Callable[..., Any]
) -> None:
    async with open_ports() as ports:
        await ports.log.end()
        ports.log._replicas = 3  # As in a cluster, where any copy may lag behind the leader.
        await law(ports.log, "place")
        assert ports.log._replicas == 3


@pytest.mark.parametrize("count", [7, 40, 600])
async def test_one_stale_proposal_stops_no_other(open_ports: OpenPorts, count: int) -> None:
    async with open_ports() as ports:
        await port_laws.one_stale_proposal_stops_no_other(ports.log, "place", count)


async def test_of_two_writers_exactly_one_wins_each_place(open_ports: OpenPorts) -> None:
    async with open_ports() as ports, open_ports() as others:
        await port_laws.of_two_writers_exactly_one_wins_each_place(ports.log, others.log, "place")


@named(port_laws.READER_LAWS)
async def test_the_reader_keeps_its_laws(open_ports: OpenPorts, law: Callable[..., Any]) -> None:
    async with open_ports() as ports:
        await law(ports.log, ports.reader(RUNS), "place")


@named(port_laws.READER_LAWS)
async def test_a_reader_with_a_filter_keeps_its_laws(open_ports: OpenPorts, law: Callable[..., Any]) -> None:
    async with open_ports() as ports:
        await law(ports.log, ports.reader(RUNS, f"run.{port_laws.ORG}.>"), "place")


@named(port_laws.SIGNAL_LAWS)
async def test_signals_keep_their_laws(open_ports: OpenPorts, law: Callable[..., Any]) -> None:
    async with open_ports() as ports, open_ports() as others:
        await law(ports.signals, others.signals, "place")


@named(port_laws.INBOX_LAWS)
async def test_inbox_and_ownership_keep_their_laws(open_ports: OpenPorts, law: Callable[..., Any]) -> None:
    async with open_ports() as ports:
        await law(ports.inbox, ports.ownership(), datetime.now(UTC))


async def test_a_call_reaches_the_owner(open_ports: OpenPorts) -> None:
    async with open_ports() as ports, open_ports() as others:
        await port_laws.a_call_reaches_the_owner(others.signals, ports.ownership())


@named(port_laws.TASK_LAWS)
async def test_tasks_keep_their_laws(open_ports: OpenPorts, law: Callable[..., Any]) -> None:
    async with open_ports() as ports, open_ports() as others:
        await law(ports.tasks, others.source("default"), "place")


@named(port_laws.BLOB_LAWS)
async def test_blobs_keep_their_laws(open_ports: OpenPorts, law: Callable[..., Any]) -> None:
    async with open_ports() as ports:
        await law(ports.blobs)


@named(port_laws.LETTER_LAWS)
async def test_letters_keep_their_laws(open_ports: OpenPorts, law: Callable[..., Any]) -> None:
    async with open_ports() as ports:
        await law(ports.letters, "place")


@named(port_laws.PURGE_LAWS)
async def test_purging_keeps_its_laws(open_ports: OpenPorts, law: Callable[..., Any]) -> None:
    async with open_ports() as ports:
        await law(ports.log, partial(JetStreamStreams(ports.connection).purge, RUNS), "place")


async def test_a_reader_goes_past_what_has_left(open_ports: OpenPorts) -> None:
    async with open_ports() as ports:
        purge = partial(JetStreamStreams(ports.connection).purge, RUNS)
        await port_laws.a_reader_goes_past_what_has_left(ports.log, ports.reader(RUNS), purge, "place")
