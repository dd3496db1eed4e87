"""What tests may rely on when they ask for a port: nobody takes it from them before their server has it."""

import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

from chassis.testing.ports import END, FIRST, Ports, free_port

CHECKOUT = Path(__file__).parents[2]
MANY = 50
ANOTHER = f"""
import sys
from pathlib import Path
from chassis.testing.ports import Ports
ports = Ports(Path(sys.argv[1]), begin=int(sys.argv[2]))
print(*(ports.free() for _ in range({MANY})), flush=True)
sys.stdin.read()
"""


@contextmanager
def another_process(locks: Path, begin: int) -> Iterator[set[int]]:
    """The ports of a process that lives as long as the block, and begins where others begin too."""
    argv = [sys.executable, "-c", ANOTHER, str(locks), str(begin)]
    with subprocess.Popen(
        argv, cwd=CHECKOUT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as running:
        assert running.stdout is not None
        yield set(map(int, running.stdout.readline().split()))
        running.communicate()


def begin_of_a_free_range() -> int:
    """Somewhere among the ports that this process has not asked for."""
    return free_port() - FIRST + 1


def test_no_two_processes_get_the_same_port_also_when_no_server_listens_yet(tmp_path: Path) -> None:
    locks, begin = tmp_path / "locks", begin_of_a_free_range()
    with ExitStack() as living:
        given = [living.enter_context(another_process(locks, begin)) for _ in range(3)]
        ours = Ports(locks, begin)
        given.append({ours.free() for _ in range(MANY)})
    assert [len(each) for each in given] == [MANY] * 4
    assert len(set[int]().union(*given)) == 4 * MANY


def test_the_ports_of_a_process_that_ended_are_free_again(tmp_path: Path) -> None:
    locks, begin = tmp_path / "locks", begin_of_a_free_range()
    with another_process(locks, begin) as first:
        pass
    with another_process(locks, begin) as second:
        assert second & first


@pytest.mark.parametrize("host", ["127.0.0.1", "0.0.0.0", "127.0.0.2"])
def test_a_port_that_somebody_has_bound_is_not_given(tmp_path: Path, host: str) -> None:
    begin = begin_of_a_free_range()
    taken = Ports(tmp_path / "locks", begin).free()
    with socket.socket() as stranger:
        stranger.bind((host, taken))
        assert Ports(tmp_path / "other locks", begin).free() != taken


def test_no_outgoing_connection_can_take_a_port_that_was_given() -> None:
    file = Path("/proc/sys/net/ipv4/ip_local_port_range")
    if not file.exists():
        pytest.skip("only Linux tells which ports it gives to outgoing connections")
    lowest = int(file.read_text().split()[0])
    assert lowest >= END
    assert all(FIRST <= free_port() < END for _ in range(20))
