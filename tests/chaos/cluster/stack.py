"""`python -m tests.chaos.cluster.stack`: what `automateos up` starts, on a cluster in place of a nats-server of its own."""

import os
import sys

import msgspec

from deploy import local
from deploy.servers import EmbeddedServers, Servers
from deploy.supervisor import Child
from deploy.wiring import hooks

URL_VARIABLE = "CLUSTER_NATS_URL"


class OnCluster(EmbeddedServers):
    """Postgres, Redis and the mail server; whoever starts this has the cluster running."""

    def children(self) -> list[Child]:
        return [child for child in super().children() if child.name != "nats"]

    def facts(self) -> Servers:
        return msgspec.structs.replace(
            super().facts(),
            nats_url=os.environ[URL_VARIABLE],
            nats_monitor_url="",
            nats_staging="in memory of the leader, as in every cluster",
        )


def main() -> int:
    local.EmbeddedServers = OnCluster  # type: ignore[misc]  # The one thing that is different.
    return local.up(os.environ, hooks())


if __name__ == "__main__":
    sys.exit(main())
