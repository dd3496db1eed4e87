"""A process that owns partitions, for tests that kill it. Says on stdout what it owns and what arrives.

`owner_process.py <url> <name> <answers: yes|no>`: a line `owned <partition>` or `arrived <partition> <body>` each.
"""

import asyncio
import sys

from chassis.clock import SystemClock
from chassis.jetstream import jetstream
from chassis.jetstream.alongside import alongside
from chassis.settings import Settings


def say(*words: object) -> None:
    sys.stdout.write(" ".join(map(str, words)) + "\n")
    sys.stdout.flush()


async def main(url: str, name: str, answers: str) -> None:
    async with jetstream(Settings(nats_url=url), "orchestrator", SystemClock()) as ports:
        ownership = ports.ownership()
        async with alongside(ports.run()):
            async for bunch in ownership.arrivals():
                if isinstance(bunch, int):
                    say("owned", bunch)
                    continue
                for arrival in bunch:
                    say("arrived", arrival.partition, arrival.body.decode())
                    if answers == "yes":
                        arrival.answer(name.encode())


asyncio.run(main(*sys.argv[1:]))
