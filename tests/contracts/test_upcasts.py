"""Old shapes become today's, one version at a time."""

from contracts.upcasts import upcast

STEPS = {
    ("thing.made", 1): lambda event: event | {"colour": event["color"]},
    ("thing.made", 2): lambda event: event | {"size": len(event["colour"])},
}


def test_an_event_is_lifted_through_every_version() -> None:
    lifted = upcast("thing.made", 1, {"color": "red", "schema_version": 1}, STEPS, {"thing.made": 3})
    assert lifted == {"color": "red", "colour": "red", "size": 3, "schema_version": 3}


def test_an_event_of_the_newest_version_stays_as_it_is() -> None:
    assert upcast("thing.made", 3, {"size": 1}, STEPS, {"thing.made": 3}) == {"size": 1}
