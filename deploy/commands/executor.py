"""`automateos executor`: one more executor beside the stack that runs here, in the pools that it is told."""

import os
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from deploy.commands.here import Asked, Here


def executor(
    *,
    pool: Annotated[list[str], Parameter(help="A pool to take tasks from; may be given several times.")],
    capacity: Annotated[int, Parameter(help="Attempts at once in each pool.")] = 256,
    labels: Annotated[str, Parameter(help="What others are told of it, such as zone=a,gpu=l4.")] = "",
    port: Annotated[int, Parameter(help="Where it tells how it is; 0: any free port.")] = 0,
    here: Asked,
) -> None:
    """Run one more executor until it is told to stop: Ctrl-C ends what is under way, `pools drain` lets it end all."""
    told = environment(here, pools=pool, capacity=capacity, labels=labels, port=port)
    program = (sys.executable, "-P", "-m", "executor")
    os.execve(sys.executable, program, dict(told))  # noqa: S606  # It becomes the executor, with the settings above.


def environment(here: Here, *, pools: list[str], capacity: int, labels: str, port: int) -> Mapping[str, str]:
    """What the process is told: the keys of an executor, and no others."""
    import msgspec

    from chassis.settings import PREFIX, environment_of
    from deploy.operator.reach import settings_as

    running = here.running()
    settings = settings_as(here, running.servers, "executor", "executor")
    told = msgspec.structs.replace(
        settings,
        redis_url=running.servers.redis_url,
        master_key_file=str(Path(settings.data_dir) / "secrets" / "master.key"),
        smtp_host=running.servers.smtp_host or settings.smtp_host,
        smtp_port=running.servers.smtp_port or settings.smtp_port,
        pools=",".join(pools),
        pool_capacity=capacity,
        pool_labels=labels,
        executor_port=port,
    )
    plain = {name: text for name, text in here.environ.items() if not name.startswith(PREFIX)}
    return plain | environment_of(told)
