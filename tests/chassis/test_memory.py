"""Memory goes back to the machine."""

import subprocess
import sys

import pytest

SCRIPT = """
import sys
from chassis.memory import frugal

def resident():
    return int(open("/proc/self/statm").read().split()[1]) * 4096

give_back = frugal()
before = resident()
pieces = [bytes(2_000 + number % 7) for number in range(40_000)]
survivors = pieces[::400]
held = resident()
del pieces
give_back()
after = resident()
print(held - before > 60_000_000, after - before < 20_000_000)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="only glibc keeps what is free")
def test_what_is_free_between_survivors_goes_back() -> None:
    done = subprocess.run([sys.executable, "-c", SCRIPT], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["True", "True"]
