"""Cuts in the network of a cluster cut what they say, and nothing of it is left on the machine."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[3]
CANNOT = 2
REACHES = """
import json, socket, subprocess, sys
from tests.chaos.cluster.network import HUB, Network, NotPermitted, enter_own_namespaces

ASK = "import socket, sys; socket.create_connection((sys.argv[1], 7000), 0.4)"
LISTEN = "import socket, time; s = socket.create_server(('', 7000)); print(flush=True); time.sleep(600)"


PING = '''
import socket, sys
lost = 0
for number in range(200):
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as asking:
        asking.settimeout(float(sys.argv[2]))
        asking.sendto(b"asked", (sys.argv[1], 7001))
        try:
            asking.recv(10)
        except TimeoutError:
            lost += 1
print(lost)
'''
ECHO = '''
import socket
with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as answering:
    answering.bind(("", 7001))
    print(flush=True)
    while True:
        asked, of = answering.recvfrom(10)
        answering.sendto(asked, of)
'''


def reaches(network, one, other):
    within = () if one == HUB else network.within(one)
    asked = subprocess.run([*within, sys.executable, "-c", ASK, network.address(other)], capture_output=True)
    return asked.returncode == 0


def told(network):
    return sorted(
        f"{one}>{other}"
        for one in (HUB, *network.nodes)
        for other in network.nodes
        if one != other and not reaches(network, one, other)
    )


try:
    enter_own_namespaces()
    network = Network(("a", "b", "c"))
    network.open()
except NotPermitted as reason:
    sys.exit(f"{reason}")
listeners = [
    subprocess.Popen([*network.within(node), sys.executable, "-c", LISTEN], stdout=subprocess.PIPE)
    for node in network.nodes
]
listeners.append(
    subprocess.Popen([*network.within("b"), sys.executable, "-c", ECHO], stdout=subprocess.PIPE)
)
try:
    for listener in listeners:
        listener.stdout.readline()
    seen = {"whole": told(network)}
    network.cut("a", "c")
    seen["bridge"] = told(network)
    network.heal()
    network.isolate("b", hub=True)
    seen["alone"] = told(network)
    network.heal()
    network.cut(HUB, "c")
    seen["clients"] = told(network)
    network.heal()
    counted = [*network.within("a"), sys.executable, "-c", PING, network.address("b")]
    before = int(subprocess.run([*counted, "5"], capture_output=True, check=True).stdout)
    network.lose("b", 0.3, "seed")
    lost = int(subprocess.run([*counted, "0.1"], capture_output=True, check=True).stdout)
    seen["bad line"] = [before, lost, told(network)]
    network.heal()
    network.unplug("a")
    seen["unplugged"] = told(network)
    network.heal()
    for _ in range(10):
        if not told(network):
            break
    seen["healed"] = told(network)
finally:
    for listener in listeners:
        listener.kill()
        listener.wait()
    network.close()
print(json.dumps(seen))
"""


@pytest.fixture(scope="module")
def seen() -> dict[str, Any]:
    """Who did not reach whom, by what was cut."""
    done = subprocess.run(
        [sys.executable, "-c", REACHES], cwd=ROOT, capture_output=True, text=True, timeout=600, check=False
    )
    if done.returncode == 1 and "Traceback" not in done.stderr:
        pytest.skip(done.stderr.strip())
    assert done.returncode == 0, done.stderr
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def test_without_a_cut_everybody_reaches_everybody(seen: dict[str, Any]) -> None:
    assert seen["whole"] == []
    assert seen["healed"] == []


def test_a_bridge_partition_cuts_two_nodes_and_leaves_both_to_the_third(seen: dict[str, Any]) -> None:
    assert seen["bridge"] == ["a>c", "c>a"]


def test_a_node_alone_reaches_nobody_and_nobody_reaches_it(seen: dict[str, Any]) -> None:
    assert seen["alone"] == ["a>b", "b>a", "b>c", "c>b", "hub>b"]
    assert seen["unplugged"] == ["a>b", "a>c", "b>a", "c>a", "hub>a"]


def test_clients_can_lose_one_node_while_the_nodes_see_one_another(seen: dict[str, Any]) -> None:
    assert seen["clients"] == ["hub>c"]


def test_a_bad_line_loses_frames_and_brings_the_others_through(seen: dict[str, Any]) -> None:
    whole, bad, unreachable = seen["bad line"]
    assert whole == 0
    assert 50 < bad < 150, "about half of 200 questions with their answers"
    assert "a>c" not in unreachable


def test_the_machine_itself_sees_nothing_of_the_network(seen: dict[str, Any]) -> None:
    assert seen
    links = subprocess.run(["ip", "-o", "link"], capture_output=True, text=True, timeout=10, check=True)
    names = subprocess.run(["ip", "netns", "list"], capture_output=True, text=True, timeout=10, check=True)
    assert "aos" not in links.stdout
    assert "aos" not in names.stdout


def test_the_command_says_what_is_missing() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "tests.chaos.cluster"],
        cwd=ROOT,
        env={"PATH": "/nowhere"},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == CANNOT
    assert "iproute2" in done.stderr.splitlines()[-1]
