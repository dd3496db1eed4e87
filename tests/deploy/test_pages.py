"""The pages lead where they say, name commands and settings that there are, and give nothing of anybody's machine away."""

import re
from pathlib import Path

import pytest

from chassis.settings import Settings
from deploy.cli import app

CHECKOUT = Path(__file__).parents[2]
PAGES = sorted(
    path
    for path in [*CHECKOUT.glob("*.md"), *(CHECKOUT / "docs").rglob("*.md"), CHECKOUT / "compose.yaml"]
    if path.name != "performance.md" or path.exists()
)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(CHECKOUT)))
def test_every_link_of_a_page_leads_to_something_that_is_there(page: Path) -> None:
    for target in re.findall(r"\]\(([^)#]+)", page.read_text()):
        if not re.match(r"[a-z]+:", target):
            assert (page.parent / target).exists(), target


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(CHECKOUT)))
def test_every_setting_and_every_command_that_a_page_names_exists(page: Path) -> None:
    text = page.read_text()
    for name in re.findall(r"\bAUTOMATEOS_[A-Z_]+[A-Z]\b", text):
        assert name in Settings.__struct_encode_fields__ or name.startswith("AUTOMATEOS_TEST_"), name
    for words in re.findall(r"`automateos ([a-z-]+)((?: [a-z][a-z-]*)?)", text):
        command = "".join(words).split()
        found = app[command[0]]
        if len(command) > 1 and list(found)[:1]:
            assert command[1] in list(found), command


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(CHECKOUT)))
def test_no_page_names_a_place_of_one_machine(page: Path) -> None:
    assert not re.findall(r"/(?:work|root|home|Users|tmp)/", page.read_text())
