"""What the operator reads about settings is what the services take, and what is committed is fresh."""

from pathlib import Path

import pytest

from chassis.settings import PREFIX, Settings, settings_from
from deploy import environment, pages

CHECKOUT = Path(__file__).parents[2]


@pytest.mark.parametrize("name", environment.documents())
def test_what_is_committed_about_settings_is_what_the_generator_writes(name: str) -> None:
    committed = (CHECKOUT / name).read_text(encoding="utf-8")
    assert committed == environment.documents()[name], "stale: run `python -m deploy.environment`"


@pytest.mark.parametrize("name", pages.PAGES)
def test_the_tables_in_the_documentation_are_those_of_the_code(name: str) -> None:
    committed = (CHECKOUT / name).read_text(encoding="utf-8")
    assert pages.renewed(name, committed) == committed, "stale: run `python -m deploy.pages`"


def test_every_line_of_the_example_is_a_setting_with_its_default() -> None:
    lines = environment.environment_text().splitlines()
    given = dict(line[1:].split("=", 1) for line in lines if line.startswith(f"#{PREFIX}"))
    assert given.keys() == set(Settings.__struct_encode_fields__)
    assert settings_from(given) == Settings()


def test_a_setting_is_described_with_its_group_its_bounds_and_its_docstring() -> None:
    described = {each.variable: each for each in environment.described()}
    replicas = described["AUTOMATEOS_REPLICAS"]
    assert (replicas.group, replicas.default, replicas.takes) == (
        "Where the stores are",
        "1",
        "whole number 1 to 5",
    )
    assert replicas.help.startswith("Copies of every stream")
    assert described["AUTOMATEOS_RETENTION_DAYS"].takes == "number from 0 or `never`"


def test_text_between_the_marks_is_written_anew_and_the_rest_is_left_alone() -> None:
    page = "before\n<!-- limits: begin -->\nold\n<!-- limits: end -->\nafter\n"
    renewed = pages.with_table(page, "limits", "new\n")
    assert renewed == "before\n<!-- limits: begin -->\n\nnew\n\n<!-- limits: end -->\nafter\n"


def test_a_page_without_its_marks_is_told_by_name() -> None:
    with pytest.raises(ValueError, match="limits"):
        pages.with_table("nothing here", "limits", "new")


def test_limits_are_told_in_the_units_of_their_names() -> None:
    assert pages.in_words("WEBHOOK_BODY_BYTES", 1048576) == "1 MiB"
    assert pages.in_words("CEL_SOURCE_BYTES", 4096) == "4 KiB"
    assert pages.in_words("DEDUPE_KEY_BYTES", 512) == "512 bytes"
    assert pages.in_words("RUN_SECONDS", 366 * 24 * 3600) == "366 days"
    assert pages.in_words("CEL_SECONDS", 0.02) == "20 ms"
    assert pages.in_words("DISK_STOPS_STARTS", 0.85) == "85 %"
    assert pages.in_words("JSON_KEYS", 10_000) == "10,000"
