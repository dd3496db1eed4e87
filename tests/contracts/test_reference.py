"""The committed reference is what the types say."""

from pathlib import Path

import pytest

from contracts.reference import asyncapi, documents, every_event, schemas

REFERENCE = Path(__file__).parents[2] / "docs" / "reference"


@pytest.mark.parametrize("name", sorted(documents()))
def test_the_committed_document_is_fresh(name: str) -> None:
    assert (REFERENCE / name).read_text(encoding="utf-8") == documents()[name], (
        "run `python -m contracts.reference`"
    )


def test_every_event_has_a_schema_and_a_message() -> None:
    defs, described = schemas()["$defs"], asyncapi()["components"]["messages"]
    for kinds in every_event().values():
        for kind in kinds:
            assert kind.__name__ in defs
            assert described[str(kind.__struct_config__.tag)]["payload"]["$ref"].endswith(f"/{kind.__name__}")


def test_no_event_type_names_python() -> None:
    for kinds in every_event().values():
        for kind in kinds:
            tag = str(kind.__struct_config__.tag)
            assert "_" not in tag
            assert tag == tag.lower()
            assert kind.__module__ not in tag
