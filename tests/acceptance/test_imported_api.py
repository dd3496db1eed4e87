"""An API is imported, drawn into a workflow and called, on a real installation with a server of somebody else's."""

import http.server
import json
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
import yaml

from bench.workflows import EVERYBODY
from deploy.testing.installation import Installation
from tests.acceptance.test_stories import post, until_status

KEY = "CANARY-imported-5d1c"
ROWS: list[dict[str, Any]] = [{"sku": f"s{number}", "stock": number} for number in range(5)]


class Shop(http.server.BaseHTTPRequestHandler):
    """A list in pages, an order, and the document about both."""

    calls: list[tuple[str, str, bytes]]
    port: int

    def do_GET(self) -> None:
        address = urlsplit(self.path)
        if address.path == "/openapi.yaml":
            self._say(yaml.safe_dump(document("orders")).encode(), "application/yaml")
            return
        self.calls.append(("GET", self.path, b""))
        if self.headers["X-Shop-Key"] != KEY:
            self.send_error(401)
            return
        at = int(parse_qs(address.query).get("after", ["0"])[0])
        rows = [row for row in ROWS[at : at + 2] if row["stock"] >= 1]
        self._say(json.dumps({"rows": rows, "next": at + 2 if at + 2 < len(ROWS) else None}).encode())

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["content-length"]))
        self.calls.append(("POST", self.path, body))
        self._say(b'{"id": "o-1"}')

    def _say(self, body: bytes, kind: str = "application/json") -> None:
        self.send_response(200)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: Any) -> None:
        """Says nothing."""


def document(orders: str) -> dict[str, Any]:
    """`orders`: what the path of orders is called."""
    return {
        "openapi": "3.1.0",
        "info": {"title": "Shop", "version": "1"},
        "servers": [{"url": "/api"}],
        "components": {"securitySchemes": {"key": {"type": "apiKey", "in": "header", "name": "X-Shop-Key"}}},
        "paths": {
            "/{store}/items": {
                "get": {
                    "operationId": "listItems",
                    "security": [{"key": []}],
                    "parameters": [
                        {"name": "store", "in": "path", "required": True, "schema": {"type": "string"}},
                        {"name": "after", "in": "query", "schema": {"type": "integer"}},
                    ],
                }
            },
            f"/{orders}": {
                "post": {
                    "operationId": "placeOrder",
                    "requestBody": {
                        "required": True,
                        "content": {
                            "application/json": {
                                "schema": {
                                    "type": "object",
                                    "required": ["items"],
                                    "properties": {"items": {"type": "array"}, "note": {"type": "string"}},
                                }
                            }
                        },
                    },
                }
            },
        },
    }


@pytest.fixture(scope="module")
def shop() -> Iterator[type[Shop]]:
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Shop) as server:
        Shop.calls, Shop.port = [], server.server_address[1]
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield Shop
        server.shutdown()


def test_an_api_is_imported_drawn_and_called(
    installed: Installation, shop: type[Shop], tmp_path: Path
) -> None:
    base = f"http://127.0.0.1:{shop.port}"
    told = installed.command("nodes", "import", f"{base}/openapi.yaml", "--name", "shop")
    assert told.splitlines() == [
        "shop version 1: 2 node types (2 added)",
        "  + api.shop.list_items",
        "  + api.shop.place_order",
    ]
    assert "api.shop.list_items" in installed.command("nodes", "list")
    secret = installed.call(
        "POST",
        "/secrets",
        {"name": "shop", "value": {"kind": "text", "text": KEY}, "allowed_hosts": ["127.0.0.1"]},
    )
    definition = {
        "nodes": [
            {
                "id": "items",
                "type": "api.shop.list_items",
                "config": {
                    "path": {"store": "{{ trigger.body.store }}"},
                    "auth": {"$secret": secret["id"]},
                    "pages": {"by": "cursor", "items": "/rows", "next": "/next", "parameter": "after"},
                },
            },
            {
                "id": "order",
                "type": "api.shop.place_order",
                "config": {"body": {"items": "{{ steps.items.output.items }}", "note": "all of them"}},
            },
        ],
        "edges": [{"source": "items", "target": "order"}],
    }
    url = installed.install("buy all", definition, EVERYBODY | {"mode": "accept"})
    _, _, answer = post(url, b'{"store": "a/b"}', idempotency_key="imported-1")
    view = until_status(installed, json.loads(answer)["run"], "completed", "failed")
    assert view["status"] == "completed", view
    assert json.loads(view["output"]["preview"])["body"] == {"id": "o-1"}
    assert [path for _, path, _ in shop.calls] == [
        "/api/a%2Fb/items",
        "/api/a%2Fb/items?after=2",
        "/api/a%2Fb/items?after=4",
        "/api/orders",
    ]
    assert json.loads(shop.calls[-1][2]) == {"items": ROWS[1:], "note": "all of them"}
    assert KEY not in json.dumps(installed.call("GET", f"/runs/{view['id']}/logs"))

    # A later version: who is published keeps the one they were published with.
    file = tmp_path / "shop.json"
    file.write_text(json.dumps(document("v2/orders")))
    told = installed.command("nodes", "import", str(file), "--server", f"{base}/api")
    assert told.splitlines() == ["shop version 2: 2 node types (1 changed)", "  ~ api.shop.place_order"]
    _, _, answer = post(url, b'{"store": "c"}', idempotency_key="imported-2")
    view = until_status(installed, json.loads(answer)["run"], "completed", "failed")
    assert view["status"] == "completed", view
    assert shop.calls[-1][1] == "/api/orders"


def test_a_document_that_is_none_is_refused_in_one_line(installed: Installation, tmp_path: Path) -> None:
    file = tmp_path / "bad.yaml"
    file.write_text("openapi: 3.0.0\npaths: {/a: {get: {parameters: [{$ref: 'http://127.0.0.1/x'}]}}}\n")
    installed.command("nodes", "import", str(file), failing=True)
    assert "bad" not in installed.command("nodes", "apis")
