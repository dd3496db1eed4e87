"""How lateness is counted: from the moment at which a run was due, or from the one at which somebody was there again."""

from bench.waking import Woken, lateness, shares


def test_a_run_is_late_from_the_moment_on_at_which_it_was_due() -> None:
    each = [Woken(due=10.0 + n, moved_on=10.0 + n + n / 100, done=10.0 + n + 0.5) for n in range(100)]
    told = lateness(each)
    assert (told["runs"], told["late_p50_ms"], told["late_p99_ms"], told["late_max_ms"]) == (
        100,
        495,
        990,
        990,
    )
    assert told["done_p99_ms"] == 500


def test_what_was_due_while_nobody_was_there_is_late_from_then_on() -> None:
    told = lateness(
        [Woken(due=10.0, moved_on=15.2, done=15.4), Woken(due=16.0, moved_on=16.1, done=16.2)], 15.0
    )
    assert told["late_max_ms"] == 200
    assert told["late_p50_ms"] == 150


def test_nobody_is_late_who_moved_on_before_somebody_was_ready() -> None:
    assert lateness([Woken(due=10.0, moved_on=12.0, done=12.5)], since=15.0)["late_max_ms"] == 0


def test_the_99th_of_a_hundred_is_told_beside_the_median() -> None:
    assert shares("took", [n / 1_000 for n in range(1, 101)]) == {"took_p50_ms": 50.5, "took_p99_ms": 100}
