"""The servers from Docker, with the same facts as the embedded ones."""

import gc
import secrets
import tempfile
import warnings
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from deploy.servers import PostgresAddress, Servers

NATS_IMAGE = "nats:2.15.1"
POSTGRES_IMAGE = "pgvector/pgvector:pg18"
REDIS_IMAGE = "redis:7.4"
MAIL_IMAGE = "axllent/mailpit:v1.27"
_NATS_CONFIGURATION = """\
listen: "0.0.0.0:4222"
http: "0.0.0.0:8222"
max_payload: 1MB
jetstream { store_dir: "/data", sync_interval: always }
"""


class NoDaemon(Exception):
    """Docker cannot be used here."""


@contextmanager
def container_servers() -> Iterator[Servers]:
    """All of them at once; raises `NoDaemon` where Docker cannot be used."""
    _ask_the_daemon()
    from testcontainers.core.container import DockerContainer
    from testcontainers.core.wait_strategies import LogMessageWaitStrategy, PortWaitStrategy

    with ExitStack() as running:
        folder = Path(running.enter_context(tempfile.TemporaryDirectory(prefix="automateos-containers-")))
        password, configuration = folder / "password", folder / "nats.conf"
        password.write_text(secrets.token_urlsafe(16))
        configuration.write_text(_NATS_CONFIGURATION)
        nats = running.enter_context(
            DockerContainer(NATS_IMAGE)
            .with_command("-c /nats.conf")
            .with_volume_mapping(configuration, "/nats.conf")
            .with_exposed_ports(4222, 8222)
            .waiting_for(LogMessageWaitStrategy("Server is ready"))
        )
        postgres = running.enter_context(
            DockerContainer(POSTGRES_IMAGE)
            .with_env("POSTGRES_PASSWORD", password.read_text())
            .with_env("POSTGRES_DB", "automateos")
            .with_exposed_ports(5432)
            # The server that makes the database listens on no address; this line comes from the one after it.
            .waiting_for(LogMessageWaitStrategy("listening on IPv4 address"))
        )
        redis = running.enter_context(
            DockerContainer(REDIS_IMAGE).with_exposed_ports(6379).waiting_for(PortWaitStrategy(6379))
        )
        mail = running.enter_context(
            DockerContainer(MAIL_IMAGE).with_exposed_ports(1025).waiting_for(PortWaitStrategy(1025))
        )
        yield Servers(
            nats_url=f"nats://{nats.get_container_host_ip()}:{nats.get_exposed_port(4222)}",
            nats_monitor_url=f"http://{nats.get_container_host_ip()}:{nats.get_exposed_port(8222)}",
            nats_version=NATS_IMAGE.partition(":")[2],
            nats_staging="on disk: in a container",
            postgres=PostgresAddress(
                host=postgres.get_container_host_ip(),
                port=postgres.get_exposed_port(5432),
                database="automateos",
                user="postgres",
                password_file=str(password),
            ),
            redis_url=f"redis://{redis.get_container_host_ip()}:{redis.get_exposed_port(6379)}",
            smtp_host=mail.get_container_host_ip(),
            smtp_port=mail.get_exposed_port(1025),
        )


def _ask_the_daemon() -> None:
    import docker  # type: ignore[import-untyped]  # It brings no types.

    with warnings.catch_warnings():
        warnings.simplefilter(
            "ignore", ResourceWarning
        )  # docker-py leaves its socket open when nobody answers.
        try:
            docker.from_env().close()
        except docker.errors.DockerException as error:
            raise NoDaemon(f"no Docker daemon answers: {error}") from None
        finally:
            gc.collect()
