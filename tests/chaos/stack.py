"""`python -m tests.chaos.stack`: what `automateos up` starts, with services that can be cut off and made to die."""

import os
import sys
from pathlib import Path
from typing import Final

from msgspec import structs

from contracts.streams import STREAMS
from deploy.local import up
from deploy.stack import SERVICES
from deploy.wiring import hooks

_LAUNCH: Final = str(Path(__file__).with_name("launch.py"))


def main() -> int:
    services = [
        structs.replace(service, argv=(sys.executable, "-E", "-s", _LAUNCH, service.name))
        for service in SERVICES
    ]
    batched = [stream.name for stream in STREAMS if stream.batches]
    return up(os.environ, hooks(), services=services, batch_streams=batched)


if __name__ == "__main__":
    sys.exit(main())
