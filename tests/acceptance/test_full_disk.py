"""The log's quota is used up: starts are refused by name, what was accepted ends, and more room heals it."""

import json
import time
from collections import Counter

from bench.workflows import EVERYBODY, echoes
from deploy.testing.installation import installation
from tests.acceptance.test_stories import post

ACCEPT = EVERYBODY | {"mode": "accept", "body_bytes": 2_000_000}


def test_a_full_log_refuses_starts_and_ends_what_was_accepted() -> None:
    with installation(nats_max_file_store="32MB") as small:
        small.start()
        url = small.install("filling", echoes(1), ACCEPT)
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
        wanted = statuses[202] + 1
        end = time.monotonic() + 60
        while small.count("select count(*) from read.runs where status = 'completed'") < wanted:
            assert time.monotonic() < end, "accepted runs end although the log is nearly full"
            time.sleep(0.2)
        small.stop()
        small.environ["AUTOMATEOS_NATS_MAX_FILE_STORE"] = "2GB"
        small.start()
        assert post(url, b"{}", idempotency_key="again")[0] == 202


def _noise(number: int) -> str:
    import random

    return random.Random(number).randbytes(75_000).hex()
