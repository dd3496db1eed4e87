"""What is promised about turns: which attempts are asked for now, which are held, and who is next."""

import random
from collections import Counter

import pytest

from contracts.limits import PARTITIONS
from contracts.subjects import partition
from orchestrator.lanes import FIRST, IDLE_SECONDS, LEAST, UNREAD_LEAST, Lanes, Pause, Pool, Ticket, Wanted

NOW = 1_000.0


def wanted(number: int, org: str = "a", **more: object) -> Wanted:
    fields: dict[str, object] = {
        "org": org,
        "run": f"{org}-{number}",
        "key": ("call", 1),
        "pool": "default",
        "workflow": "w",
    }
    return Wanted(**fields | more)  # type: ignore[arg-type]  # As the fields have them.


def crowd(lanes: Lanes, count: int, org: str = "a", **more: object) -> int:
    """So many attempts at once: how many of them are asked for."""
    return sum(lanes.admit(wanted(number, org, **more), NOW) for number in range(count))


def names(tickets: list[Ticket]) -> list[str]:
    return [ticket.wanted.run for ticket in tickets]


def ended(lanes: Lanes, *runs: str) -> None:
    for run in runs:
        lanes.over(run, ("call", 1), NOW)


def test_while_there_is_room_everything_is_asked_for_at_once() -> None:
    lanes = Lanes()
    assert crowd(lanes, FIRST) == FIRST
    assert (lanes.names, lanes.has_turns, lanes.crowded) == (0, False, [])


def test_beyond_the_window_attempts_are_held_and_asked_for_as_others_end() -> None:
    lanes = Lanes()
    assert crowd(lanes, FIRST + 3) == FIRST
    assert (lanes.names, lanes.turns(10)) == (3, [])
    ended(lanes, "a-0", "a-1")
    assert lanes.has_turns
    assert names(lanes.turns(10)) == [f"a-{FIRST}", f"a-{FIRST + 1}"]
    assert lanes.names == 1
    assert not lanes.has_turns


def test_an_org_with_less_than_its_share_waits_for_nobody() -> None:
    lanes = Lanes()
    crowd(lanes, 100_000)
    assert lanes.admit(wanted(1, "b"), NOW)


def test_what_is_held_is_asked_for_by_the_orgs_in_turn() -> None:
    lanes = Lanes()
    crowd(lanes, FIRST + 100, "a")
    crowd(lanes, FIRST + 100, "b")
    ended(lanes, *(f"a-{number}" for number in range(FIRST)))
    ended(lanes, *(f"b-{number}" for number in range(FIRST)))
    next_ = lanes.turns(10)
    assert Counter(ticket.wanted.org for ticket in next_) == {"a": 5, "b": 5}
    assert [ticket.wanted.org for ticket in next_[:4]] in (list("abab"), list("baba"))


def test_of_one_org_the_higher_priority_goes_first_and_then_the_older() -> None:
    lanes = Lanes()
    crowd(lanes, FIRST)
    for number, rank in ((1001, 4), (1002, 4), (1003, 0), (1004, 9)):
        assert not lanes.admit(wanted(number, rank=rank), NOW)
    ended(lanes, *(f"a-{number}" for number in range(FIRST)))
    assert names(lanes.turns(10)) == ["a-1003", "a-1001", "a-1002", "a-1004"]


def test_whoever_comes_while_others_of_its_org_wait_waits_behind_them() -> None:
    lanes = Lanes()
    crowd(lanes, FIRST + 1)
    ended(lanes, "a-0", "a-1")
    assert not lanes.admit(wanted(5_000), NOW)
    assert names(lanes.turns(1)) == [f"a-{FIRST}"]


def test_pools_do_not_wait_for_each_other() -> None:
    lanes = Lanes()
    crowd(lanes, FIRST + 5)
    assert lanes.admit(wanted(9_000, pool="gpu"), NOW)


def test_workers_outside_are_one_orgs_and_nobody_else_waits_for_them() -> None:
    lanes = Lanes()
    assert crowd(lanes, FIRST + 1, "a", pool="ext-press") == FIRST
    assert crowd(lanes, FIRST + 1, "b", pool="ext-press") == FIRST
    assert sorted((pool.name, pool.org) for pool in lanes.crowded) == [("ext-press", "a"), ("ext-press", "b")]
    lanes.pause("a", frozenset({("pool", "ext-press")}))
    assert [pool.org for pool in lanes.crowded] == ["b"]


def test_asking_again_for_what_is_out_is_allowed_and_for_what_is_held_is_not() -> None:
    lanes = Lanes()
    crowd(lanes, FIRST + 1)
    assert lanes.admit(wanted(0), NOW), "its task may have got lost"
    assert not lanes.admit(wanted(FIRST), NOW)
    assert lanes.names == 1
    assert lanes.pools["default"].out == FIRST


def test_a_run_that_ends_takes_what_is_held_of_it_along() -> None:
    lanes = Lanes()
    crowd(lanes, FIRST + 2)
    lanes.keep_only(f"a-{FIRST}", (), NOW)
    ended(lanes, "a-0", "a-1", "a-2")
    assert names(lanes.turns(10)) == [f"a-{FIRST + 1}"]


def test_an_attempt_that_has_become_another_one_is_over() -> None:
    lanes = Lanes()
    lanes.admit(wanted(1), NOW)
    lanes.keep_only("a-1", {("call", 2)}, NOW)
    assert lanes.pools["default"].out == 0


def test_what_could_not_be_sent_is_held_again_in_its_old_place() -> None:
    lanes = Lanes()
    crowd(lanes, FIRST + 3)
    ended(lanes, "a-0", "a-1", "a-2")
    first, *_ = lanes.turns(1)
    lanes.put_back(first)
    assert names(lanes.turns(10)) == [f"a-{FIRST + number}" for number in range(3)]
    assert lanes.pools["default"].out == FIRST


def test_what_ended_while_it_was_sent_is_not_held_again() -> None:
    lanes = Lanes()
    crowd(lanes, FIRST + 1)
    ended(lanes, "a-0")
    [ticket] = lanes.turns(1)
    ended(lanes, ticket.wanted.run)
    lanes.put_back(ticket)
    assert (lanes.names, lanes.pools["default"].out) == (0, FIRST - 1)


@pytest.mark.parametrize("pause", [("org", "a"), ("workflow", "w"), ("pool", "default")])
def test_what_is_paused_is_held_whatever_room_there_is_and_is_asked_for_when_it_is_not(
    pause: tuple[str, str],
) -> None:
    lanes = Lanes()
    lanes.pause("a", frozenset({pause}))  # type: ignore[arg-type]  # One of three words.
    assert crowd(lanes, 3) == 0
    assert (lanes.names, lanes.has_turns) == (3, False)
    lanes.pause("a", frozenset())
    assert names(lanes.turns(10)) == ["a-0", "a-1", "a-2"]


@pytest.mark.parametrize("pause", [("org", "b"), ("workflow", "v"), ("pool", "gpu")])
def test_a_pause_holds_nothing_else(pause: tuple[str, str]) -> None:
    lanes = Lanes()
    lanes.pause("a", frozenset({pause}))  # type: ignore[arg-type]  # One of three words.
    assert crowd(lanes, 3) == 3


def test_what_another_org_has_paused_is_its_own_affair() -> None:
    lanes = Lanes()
    lanes.pause("b", frozenset({("pool", "default"), ("workflow", "w")}))
    assert crowd(lanes, 3, "a") == 3
    assert crowd(lanes, 3, "b") == 0


def test_a_pause_while_others_wait_for_room_sorts_them_anew() -> None:
    lanes = Lanes()
    crowd(lanes, FIRST)
    for number in range(4):
        lanes.admit(wanted(1_000 + number, workflow="even" if number % 2 == 0 else "odd"), NOW)
    lanes.pause("a", frozenset({("workflow", "even")}))
    ended(lanes, *(f"a-{number}" for number in range(FIRST)))
    assert names(lanes.turns(10)) == ["a-1001", "a-1003"]
    lanes.pause("a", frozenset())
    assert names(lanes.turns(10)) == ["a-1000", "a-1002"]


def test_what_got_lost_and_is_paused_by_now_is_held() -> None:
    lanes = Lanes()
    crowd(lanes, 1)
    lanes.pause("a", frozenset({("org", "a")}))
    assert not lanes.admit(wanted(0), NOW)
    assert (lanes.names, lanes.pools["default"].out) == (1, 0)


def test_names_are_bounded_and_what_has_none_comes_again() -> None:
    lanes = Lanes(room=10)
    crowd(lanes, FIRST + 15)
    lane = lanes.pools["default"].lanes["a"]
    assert (lanes.names, lane.waiting, lane.unnamed, lane.held) == (10, 10, 5, 15)
    ended(lanes, "a-0")
    lanes.turns(1)
    assert not lanes.admit(wanted(FIRST + 12), NOW)
    assert (lanes.names, lane.unnamed) == (10, 4)


def test_of_a_partition_that_is_anothers_nothing_is_remembered() -> None:
    lanes = Lanes()
    crowd(lanes, FIRST + 200)
    number = partition("a-0")
    held = [f"a-{n}" for n in range(FIRST, FIRST + 200) if partition(f"a-{n}") == number]
    assert sorted(lanes.forget(number)) == sorted(("a", run) for run in held)
    assert number not in lanes.partitions
    assert len(lanes.partitions) == PARTITIONS - 1
    assert lanes.pools["default"].out == sum(partition(f"a-{n}") != number for n in range(FIRST))


def test_a_window_is_what_is_under_way_and_a_little_more() -> None:
    lanes = Lanes()
    crowd(lanes, FIRST + 1_000)
    pool = lanes.pools["default"]
    pool.lies(0, 0, NOW)
    pool.lies(FIRST - 4, 4, NOW + 0.1)  # Four executors' worth, each task long.
    assert pool.window == LEAST
    pool.lies(0, 4, NOW + 0.2)
    assert pool.window > LEAST


def test_a_pool_that_is_fast_gets_a_wide_window_soon() -> None:
    lanes = Lanes()
    crowd(lanes, 10_000)
    pool = lanes.pools["default"]
    pool.lies(0, 0, NOW)
    done = 0
    for tick in range(1, 11):
        out = pool.out
        for number in range(done, done + out):
            lanes.over(f"a-{number}", ("call", 1), NOW)
        done += out
        pool.lies(0, 0, NOW + tick * 0.1)
        lanes.turns(100_000)
    assert pool.window > 4 * FIRST


def test_others_who_ask_for_much_of_a_pool_do_not_close_our_window() -> None:
    pool = Pool("default")
    pool.window, pool.out = 40, 40
    pool.lies(0, 0, NOW)
    pool.lies(400, 32, NOW + 0.1)
    assert pool.window >= LEAST
    assert pool.window >= 32 * (40 / 432) + UNREAD_LEAST - 0.01


def test_what_was_known_of_a_pool_is_forgotten_when_it_was_idle() -> None:
    lanes = Lanes()
    crowd(lanes, 1)
    lanes.pools["default"].window = 5_000
    ended(lanes, "a-0")
    lanes.admit(wanted(1), NOW + IDLE_SECONDS + 1)
    assert lanes.pools["default"].window == FIRST


class Chance:
    """Anything happens to some lanes; what must be out and what must be held is kept beside."""

    def __init__(self, seed: int) -> None:
        self.chance = random.Random(seed)
        self.lanes = Lanes(room=self.chance.choice((5, 1_000)))
        self.out, self.held = set[str](), set[str]()
        self.step = 0

    def happen(self) -> None:
        self.step += 1
        act = self.chance.choice(
            (self.come, self.come, self.come, self.end, self.send, self.pause, self.widen)
        )
        act()

    def come(self) -> None:
        chance, run = self.chance, f"r-{self.chance.randrange(120)}"
        if run in self.out | self.held:
            return
        attempt = Wanted(
            org=chance.choice("ab"),
            run=run,
            key=("call", 1),
            pool=chance.choice("pq"),
            workflow=chance.choice("vw"),
            rank=chance.randrange(3),
        )
        (self.out if self.lanes.admit(attempt, NOW + self.step) else self.held).add(run)

    def end(self) -> None:
        run = f"r-{self.chance.randrange(120)}"
        ended(self.lanes, run)
        self.out.discard(run)
        self.held.discard(run)

    def send(self) -> None:
        sent = set(names(self.lanes.turns(self.chance.randrange(1, 30))))
        assert sent <= self.held, "it is asked for twice, or is not wanted"
        self.out |= sent
        self.held -= sent

    def pause(self) -> None:
        some: list[Pause] = [("workflow", "v"), ("pool", "q"), ("org", "a")]
        paused = frozenset(self.chance.sample(some, self.chance.randrange(3)))
        self.lanes.pause(self.chance.choice("ab"), paused)

    def widen(self) -> None:
        for pool in self.lanes.pools.values():
            pool.window = self.chance.choice((1, 8, 30))


@pytest.mark.parametrize("seed", range(30))
def test_whatever_happens_in_whatever_order_the_numbers_are_right(seed: int) -> None:
    """A law: out, waiting and names are what the tickets say, and nothing is asked for twice or forgotten."""
    story = Chance(seed)
    lanes = story.lanes
    for _ in range(300):
        story.happen()
        # What has no name comes again as something new.
        story.held = {run for run in story.held if lanes.is_held(run, ("call", 1))}
        assert lanes.names == len(story.held)
        assert sum(pool.out for pool in lanes.pools.values()) == len(story.out)
        assert sum(lane.out for lane in lanes.lanes()) == len(story.out)
        assert sum(lane.waiting + len(lane.paused) for lane in lanes.lanes()) == len(story.held)
    for org in "ab":
        lanes.pause(org, frozenset())
    for pool in lanes.pools.values():
        pool.window = 1_000
    assert set(names(lanes.turns(1_000))) == story.held
