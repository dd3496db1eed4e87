"""The log's quota is used up: starts are refused by name, what was accepted ends, and more room heals it."""

import json
import re
import time
import urllib.request
from collections import Counter
from typing import Any

from bench.workflows import EVERYBODY, echoes
from deploy.testing.installation import Installation, installation
from tests.acceptance.test_stories import post, until_status
from tests.acceptance.waiting import until

CALLING = {"nodes": [{"id": "call", "type": "http.request", "config": {"url": "http://127.0.0.1:9/"}}]}
ACCEPT = EVERYBODY | {"mode": "accept", "body_bytes": 2_000_000}


def test_a_full_log_refuses_starts_and_ends_what_was_accepted() -> None:
    with installation(nats_max_file_store="32MB") as small:
        small.start()
        url = small.install("filling", echoes(1), ACCEPT)
        speaking = small.install("speaking", CALLING, EVERYBODY | {"mode": "accept"})
        said = run_of(post(speaking, b"{}", idempotency_key="said"))
        until(lambda: len(lines_of(small, said)) == 3, "what a node says is kept while there is room")
        statuses: Counter[int] = Counter()
        headers: dict[str, str] = {}
        for number in range(600):
            # Bytes that do not compress, so that the quota is really used.
            body = json.dumps({"n": number, "noise": _noise(number)}).encode()
            status, headers, _ = post(url, body, idempotency_key=f"fill-{number}")
            statuses[status] += 1
            if status == 503:
                break
        assert statuses[503] == 1, statuses
        assert "retry-after" in headers
        # A burst without a pause was stopped before the engine's part was touched: what is small still begins.
        small_one = post(url, b"{}", idempotency_key="small")[0]
        assert small_one == 202
        # What nodes say finds no room any more, and their runs do not mind.
        unheard = run_of(post(speaking, b"{}", idempotency_key="unheard"))
        assert until_status(small, unheard, "failed")["error"]["code"] == "unreachable"
        until(lambda: dropped(small) >= 3, "lines that find no room are counted")
        assert lines_of(small, unheard) == []
        wanted = statuses[202] + 1
        end = time.monotonic() + 60
        while small.count("select count(*) from read.runs where status = 'completed'") < wanted:
            assert time.monotonic() < end, "accepted runs end although the log is nearly full"
            time.sleep(0.2)
        small.stop()
        small.environ["AUTOMATEOS_NATS_MAX_FILE_STORE"] = "2GB"
        small.start()
        assert post(url, b"{}", idempotency_key="again")[0] == 202


def run_of(answer: tuple[int, dict[str, str], bytes]) -> str:
    assert answer[0] == 202, answer
    run: str = json.loads(answer[2])["run"]
    return run


def lines_of(installed: Installation, run: str) -> list[Any]:
    items: list[Any] = installed.call("GET", f"/runs/{run}/logs")["items"]
    return items


def dropped(installed: Installation) -> float:
    port = installed.environ["AUTOMATEOS_EXECUTOR_PORT"]
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=10) as answer:
        [told] = re.findall(
            r"^executor_log_lines_dropped_total\S* (\S+)", answer.read().decode(), re.MULTILINE
        )
    return float(told)


def _noise(number: int) -> str:
    import random

    return random.Random(number).randbytes(75_000).hex()
