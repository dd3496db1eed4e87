"""What a history says to a delivery that waited too long for its run's answer."""

from msgspec import Raw

from chassis.ports import Stored
from chassis.testing.examples import commit
from contracts.codec import encode
from contracts.payloads import Inline
from contracts.runs import RunCompleted, RunEvent, RunResponded
from ingress.histories import responded_in


def stored(version: int, *events: RunEvent) -> Stored:
    return Stored(
        subject="run.org.run-1",
        sequence=version,
        body=encode(commit(*events, org="org", run="run-1", version=version)),
    )


ANSWERED = stored(1, RunResponded(step="r", status=207, body=Inline(value=Raw(b'"hello"'))))
ENDED = stored(2, RunCompleted(output=Inline(value=Raw(b'{"r":"hello"}'))))


def test_the_respond_nodes_answer_comes_before_how_the_run_ended() -> None:
    told = responded_in([ANSWERED, ENDED], "run-1")
    assert told is not None
    assert (told.state, told.status) == ("responded", 207)


def test_without_a_respond_node_the_runs_output_is_the_answer() -> None:
    told = responded_in([stored(1, RunCompleted(output=Inline(value=Raw(b"1"))))], "run-1")
    assert told is not None
    assert told.state == "completed"


def test_a_history_whose_beginning_has_left_does_not_say_what_was_answered() -> None:
    assert responded_in([ENDED], "run-1") is None
    assert responded_in([], "run-1") is None
    assert responded_in([Stored(subject="run.org.run-1", sequence=1, body=b"no commit")], "run-1") is None
