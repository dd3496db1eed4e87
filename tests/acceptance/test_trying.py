"""A workflow is tried out on a real installation: a sample is captured, a draft runs up to a node, a real run becomes a case."""

import http.server
import json
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from xml.etree import ElementTree as ET

import pytest

from bench.workflows import EVERYBODY
from deploy.testing.installation import Installation
from tests.acceptance.test_sensitive import CARD as CARD_OF_THE_SHOP
from tests.acceptance.test_sensitive import shop as secretive
from tests.acceptance.test_stories import post, until_status
from tests.acceptance.waiting import until

CARD = "4111-CANARY-card"


class Shop(http.server.BaseHTTPRequestHandler):
    """Says what an order costs, and takes it."""

    calls: list[str]

    def do_GET(self) -> None:
        self._say({"price": 5})

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["content-length"]))
        self._say({"order": "o-1"})

    def _say(self, value: Any) -> None:
        self.calls.append(self.command)
        body = json.dumps(value).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: Any) -> None:
        """Says nothing."""


@pytest.fixture
def shop() -> Iterator[str]:
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Shop) as server:
        Shop.calls = []
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_address[1]}"
        server.shutdown()


def definition(shop: str, sum_: str) -> Any:
    return {
        "nodes": [
            {"id": "price", "type": "http.request", "config": {"url": f"{shop}/price"}},
            {"id": "total", "type": "set", "config": {"fields": {"sum": sum_}}},
            {
                "id": "order",
                "type": "http.request",
                "config": {"method": "POST", "url": f"{shop}/order", "body": "{{ steps.total.output }}"},
            },
        ],
        "edges": [{"source": "price", "target": "total"}, {"source": "total", "target": "order"}],
    }


TIMES = "{{ steps.price.output.body.price * trigger.body.count }}"
PLUS = "{{ steps.price.output.body.price + trigger.body.count }}"


def ids(page: Any) -> list[str]:
    return [each["id"] for each in page["items"]]


def samples_of(installed: Installation, trigger: str) -> list[Any]:
    """What was captured, as soon as there is something."""
    end = time.monotonic() + 60
    while not (found := installed.call("GET", f"/triggers/{trigger}/samples")["items"]):
        assert time.monotonic() < end
        time.sleep(0.05)
    return list(found)


def test_from_a_captured_sample_to_a_case_that_ci_runs(
    installed: Installation, shop: str, tmp_path: Path
) -> None:
    drawn = {"name": "priced orders", "definition": definition(shop, TIMES)}
    workflow = installed.call("POST", "/workflows", drawn)["id"]
    webhook = EVERYBODY | {"mode": "accept", "sensitive": ["/card"]}
    made = installed.call("POST", "/triggers", {"name": "shop", "workflow": workflow, "webhook": webhook})
    until(lambda: made["id"] in ids(installed.call("GET", "/triggers")), "the trigger is listed")
    delivery = json.dumps({"count": 3, "card": CARD}).encode()
    end = time.monotonic() + 60
    while post(made["address"]["test_url"], delivery)[0] != 200:
        assert time.monotonic() < end
        time.sleep(0.05)
    sample = samples_of(installed, made["id"])[0]
    assert sample["trigger"]["body"]["count"] == 3
    assert CARD not in json.dumps(sample)

    # The draft runs up to a node, with what was captured. The outline says beforehand what will act.
    wish = {
        "selection": {"part": "until", "node": "total"},
        "sample": {"trigger": made["id"], "receipt": sample["receipt"]},
    }
    outline = installed.call("POST", f"/workflows/{workflow}/tests/outline", wish)
    assert ([each["node"] for each in outline["acts"]], outline["left_out"]) == (["price"], ["order"])
    assert Shop.calls == []
    first = installed.call("POST", f"/workflows/{workflow}/tests", wish)["run"]
    view = until_status(installed, first, "completed", "failed")
    assert (view["status"], view["mode"], json.loads(view["output"]["preview"])) == (
        "completed",
        "test",
        {"sum": 15},
    )
    assert Shop.calls == ["GET"]

    assert ", a test" in installed.command("runs", "show", first)
    assert "whole:" in installed.command("runs", "verify", first)
    installed.command("runs", "replay", first)  # Fails where the history is not what its plan asks for.

    # From that node on with what the first test brought; and one node alone.
    wish = {"selection": {"part": "from", "node": "order"}, "from_run": first}
    second = installed.call("POST", f"/workflows/{workflow}/tests", wish)
    assert until_status(installed, second["run"], "completed", "failed")["status"] == "completed"
    assert Shop.calls == ["GET", "POST"]
    wish = {
        "selection": {"part": "node", "node": "total"},
        "from_run": first,
        "trigger": {"body": {"count": 4}},
    }
    third = installed.call("POST", f"/workflows/{workflow}/tests", wish)
    assert third["outline"]["acts"] == []
    assert json.loads(until_status(installed, third["run"], "completed")["output"]["preview"]) == {"sum": 20}
    assert installed.call("GET", f"/runs?workflow={workflow}")["items"] == []
    assert len(installed.call("GET", f"/runs?workflow={workflow}&mode=test")["items"]) == 3

    # A real run becomes a case, without what was sealed in it.
    installed.call("POST", f"/workflows/{workflow}/versions/1/publish")
    end = time.monotonic() + 60
    while (sent := post(made["address"]["url"], delivery))[0] != 202:
        assert time.monotonic() < end
        time.sleep(0.05)
    run = json.loads(sent[2])["run"]
    assert until_status(installed, run, "completed", "failed")["status"] == "completed"
    holds = "steps.total.output.sum == 15"
    said = installed.command(
        "cases", "record", "priced orders", "three", "--from-run", run, "--condition", holds
    )
    assert said == "three is kept as revision 1\n"
    assert run in installed.command("cases", "list", workflow)
    case = installed.call("GET", f"/workflows/{workflow}/cases/three")
    assert CARD not in json.dumps(case)
    assert case["trigger"]["body"] == {"count": 3, "card": "(sealed)"}
    calls = list(Shop.calls)

    said = installed.command("test", "priced orders", "--junit", str(tmp_path / "passed.xml"))
    assert said.splitlines()[-1] == "1 passed"
    assert ET.parse(tmp_path / "passed.xml").getroot().get("failures") == "0"

    # A change for the worse is found before it is published, and nothing was called for that.
    installed.call("POST", f"/workflows/{workflow}/versions", {"definition": definition(shop, PLUS)})
    said = installed.command("test", workflow, "--junit", str(tmp_path / "failed.xml"), failing=True)
    assert "[total] The output of total is another one at /sum." in said
    assert "expected 15" in said
    assert "got      8" in said
    assert said.splitlines()[-1] == "0 passed, 1 failed"
    [failure] = ET.parse(tmp_path / "failed.xml").getroot().iter("failure")
    assert "/sum" in str(failure.text)
    assert installed.command("test", workflow, "--version", "1").splitlines()[-1] == "1 passed"
    assert Shop.calls == calls
    installed.command("cases", "remove", workflow, "three")
    assert installed.call("GET", f"/workflows/{workflow}/cases")["items"] == []


def test_what_an_earlier_run_sealed_is_open_in_the_calls_of_a_test_and_in_no_case(
    installed: Installation,
) -> None:
    with secretive() as (url, heard):
        drawn = {
            "nodes": [
                {"id": "ask", "type": "http.request", "config": {"url": url}, "sensitive": ["/body/card"]},
                {
                    "id": "pay",
                    "type": "http.request",
                    "config": {"method": "POST", "url": url, "body": "{{ steps.ask.output.body }}"},
                },
            ],
            "edges": [{"source": "ask", "target": "pay"}],
        }
        workflow = installed.call("POST", "/workflows", {"name": "sealed", "definition": drawn})["id"]
        first = installed.call("POST", f"/workflows/{workflow}/tests", {})["run"]
        assert until_status(installed, first, "completed", "failed")["status"] == "completed"
        wish = {"selection": {"part": "from", "node": "pay"}, "from_run": first}
        second = installed.call("POST", f"/workflows/{workflow}/tests", wish)["run"]
        assert until_status(installed, second, "completed", "failed")["status"] == "completed"
        assert [json.loads(body)["card"] for _, body in heard] == [CARD_OF_THE_SHOP] * 2
    assert CARD_OF_THE_SHOP not in json.dumps(installed.call("GET", f"/runs/{second}/events"))
    installed.command("cases", "record", workflow, "paid", "--from-run", first)
    case = installed.call("GET", f"/workflows/{workflow}/cases/paid")
    assert case["expected"]["sent"]["pay"]["body"]["card"] == "(sealed)"
    assert "$sealed" not in json.dumps(case)
    assert installed.command("test", workflow).splitlines()[-1] == "1 passed"
