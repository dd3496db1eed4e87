"""Only the servers: `python -m deploy.servers <folder>` prints where they are and runs them until SIGTERM.

For tests, and for developing one service by hand. nats-server asks nobody who he is.
"""

import argparse
import asyncio
import os
import signal
import sys
from collections.abc import Mapping
from pathlib import Path

import msgspec

from deploy.data_directory import DataDirectory, open_data_directory
from deploy.refusals import Refused
from deploy.servers import EmbeddedServers, ServerOptions
from deploy.servers.nats import NatsOptions
from deploy.supervisor import Supervisor


async def run(data: DataDirectory, *, batch_streams: tuple[str, ...], env: Mapping[str, str]) -> None:
    """Start them, print the facts as one line of JSON, wait for SIGTERM, stop them."""
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    options = ServerOptions(nats=NatsOptions(batch_streams=batch_streams))
    servers = EmbeddedServers(data, options=options, env=env, say=_say)
    async with Supervisor(run=data.run, say=_say) as supervisor:
        await supervisor.start(servers.children())
        data.mark_complete()
        sys.stdout.write(msgspec.json.encode(servers.facts()).decode() + "\n")
        sys.stdout.flush()
        await stop.wait()
    servers.forget_staging()


def _say(line: str) -> None:
    sys.stderr.write(f"{line}\n")


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m deploy.servers", description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument(
        "--batch-stream", action="append", default=[], help="stage this stream's batches in memory"
    )
    arguments = parser.parse_args()
    try:
        with open_data_directory(arguments.folder) as data:
            asyncio.run(run(data, batch_streams=tuple(arguments.batch_stream), env=os.environ))  # noqa: TID251  # Here.
    except Refused as refused:
        _say(str(refused))
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
