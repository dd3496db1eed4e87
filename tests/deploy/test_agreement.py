"""A history is whole when its versions, its hashes and its two copies say so; each fault is told by itself."""

import msgspec

from chassis.ids import digest
from deploy.operator.agreement import verdict


def history(length: int) -> list[bytes]:
    """Commits as they are stored, chained."""
    bodies: list[bytes] = []
    for version in range(1, length + 1):
        frame = {
            "id": f"c{version}",
            "org": "org_default",
            "run": "r",
            "version": version,
            "events": [{"type": "run.unparked", "by": "system"}],
            "engine_version": "0.1.0",
            "prev_hash": digest(bodies[-1]) if bodies else "",
        }
        bodies.append(msgspec.json.encode(frame))
    return bodies


def test_a_whole_history_in_both_places_has_no_problem() -> None:
    told = verdict(history(3), history(3))
    assert (told.commits, told.in_log, told.in_archive, told.problems) == (3, 3, 3, ())


def test_a_history_that_left_the_log_but_for_its_tombstone_is_whole() -> None:
    told = verdict(history(4)[3:], history(4))
    assert (told.commits, told.in_log, told.in_archive, told.problems) == (4, 1, 4, ())


def test_an_archive_that_lags_behind_is_no_fault() -> None:
    assert verdict(history(4), history(2)).problems == ()


def test_a_changed_byte_is_told_as_a_difference_and_as_a_broken_chain() -> None:
    archive = history(3)
    archive[1] = archive[1].replace(b'"system"', b'"nobody"')
    [problem] = verdict(history(3), archive).problems
    assert problem.startswith("version 2: log and archive differ")
    [broken] = verdict((), archive).problems
    assert broken == "version 3: prev_hash is not the hash of the commit before it"


def test_a_missing_version_is_told_by_its_number() -> None:
    left = [body for place, body in enumerate(history(4), 1) if place != 2]
    assert "version 2 is in neither log nor archive" in verdict(left, left).problems


def test_a_commit_that_stands_twice_is_told() -> None:
    assert "log: version 1 is there twice" in verdict([*history(1), *history(1)], history(1)).problems


def test_bytes_that_are_no_commit_are_told() -> None:
    [problem, *_] = verdict([b"{"], ()).problems
    assert problem.startswith("log: a commit cannot be read")


def test_a_run_that_is_in_neither_place_is_told() -> None:
    assert verdict((), ()).problems == ("there is no such run",)


def test_without_an_archive_only_the_log_is_judged() -> None:
    assert verdict(history(3)[2:], None).problems == ()


def test_commits_that_changed_places_are_told() -> None:
    swapped = history(3)
    swapped[1], swapped[2] = swapped[2], swapped[1]
    assert "archive: version 2 stands behind version 3" in verdict((), swapped).problems
    told = verdict(swapped, history(3))
    assert (told.problems, told.versions) == (("log: version 2 stands behind version 3",), (2,))


def test_a_commit_of_another_history_is_told() -> None:
    stranger = history(2)[1].replace(b'"run":"r"', b'"run":"s"')
    told = verdict([*history(2), stranger], history(2), ("org_default", "r"))
    assert told.problems == ("log: version 2 belongs to org_default/s",)


def test_a_history_of_something_else_than_a_run_is_judged_alike() -> None:
    bodies = [body.replace(b'"run":"r"', b'"aggregate":"workflow","aggregate_id":"w"') for body in history(1)]
    assert verdict(bodies, bodies, ("org_default", "workflow", "w")).problems == ()
    assert verdict(bodies, bodies, ("org_default", "trigger", "w")).problems


def test_versions_that_are_far_apart_take_no_memory() -> None:
    far = history(1)[0].replace(b'"version":1', b'"version":9007199254740991')
    assert len(verdict((), [*history(1), far]).problems) < 10
