"""The HTTP API as the command line and the demo use it: plain requests, and a problem becomes one line."""

import http.client
import ssl
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlencode, urlsplit

import msgspec
from msgspec import Struct

from contracts.codec import Malformed, decode_json, encode
from deploy.refusals import Refused

SECONDS: Final = 30.0


class Answer(Struct, frozen=True, kw_only=True):
    """One HTTP answer, whatever its status."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    def json(self) -> Any:
        return decode_json(self.body) if self.body else None


def request(
    base: str,
    method: str,
    path: str,
    body: bytes = b"",
    headers: Mapping[str, str] | None = None,
    *,
    seconds: float = SECONDS,
) -> Answer:
    """One request to a server of ours. Refused when nobody answers there."""
    parts = urlsplit(base)
    host, port = parts.hostname or "", parts.port
    connection = (
        http.client.HTTPSConnection(host, port, timeout=seconds, context=_own_certificate())
        if parts.scheme == "https"
        else http.client.HTTPConnection(host, port, timeout=seconds)
    )
    try:
        connection.request(method, path, body or None, dict(headers or {}))
        answer = connection.getresponse()
        return Answer(
            status=answer.status,
            headers={name.lower(): value for name, value in answer.getheaders()},
            body=answer.read(),
        )
    except (OSError, http.client.HTTPException) as error:
        raise Refused(f"{base} does not answer: {error or type(error).__name__}.") from error
    finally:
        connection.close()


def _own_certificate() -> ssl.SSLContext:
    """We ask our own server on our own machine; its certificate names the public address."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context


class Api:
    """`/api/v1` with one API key."""

    def __init__(self, base: str, key: str) -> None:
        self._base = base
        self._key = key

    def get(self, path: str, **query: str | int | None) -> Any:
        given = {name: value for name, value in query.items() if value is not None}
        return self._ask("GET", f"{path}?{urlencode(given)}" if given else path)

    def post(self, path: str, body: Any = None, **headers: str) -> Any:
        return self._ask("POST", path, body, headers)

    def put(self, path: str, body: Any) -> Any:
        return self._ask("PUT", path, body)

    def delete(self, path: str) -> Any:
        return self._ask("DELETE", path)

    def pages(self, path: str, most: int, **query: str | None) -> list[Any]:
        """The items of a list, page by page, until there are no more or enough of them."""
        found: list[Any] = []
        cursor: str | None = None
        while len(found) < most:
            page = self.get(path, cursor=cursor, limit=min(most - len(found), 200), **query)
            found += page["items"]
            cursor = page.get("next")
            if not cursor:
                break
        return found

    def _ask(self, method: str, path: str, body: Any = None, headers: Mapping[str, str] | None = None) -> Any:
        given = {"authorization": f"Bearer {self._key}", "accept": "application/json", **(headers or {})}
        encoded = b""
        if body is not None:
            encoded = bytes(body) if isinstance(body, msgspec.Raw) else encode(body)
            given["content-type"] = "application/json"
        answer = request(self._base, method, f"/api/v1{path}", encoded, given)
        if answer.status >= 400:
            raise Refused(problem(answer))
        return answer.json()


def problem(answer: Answer) -> str:
    """An RFC 9457 problem in one line."""
    try:
        told = answer.json()
    except Malformed:
        told = None
    if not isinstance(told, dict):
        return f"The server answered with status {answer.status}."
    words = told.get("detail") or told.get("title") or "no reason given"
    faults = told.get("faults") or told.get("errors") or []
    more = "".join(
        f" {each.get('pointer', '')}: {each.get('message', '')}" for each in faults if isinstance(each, dict)
    )
    return f"{words} ({told.get('code', 'status')} {answer.status}){more}"


def key_in(path: str | Path) -> str:
    """The API key in a file."""
    try:
        return Path(path).read_text(encoding="utf-8").strip()
    except OSError as error:
        raise Refused(f"The API key cannot be read: {error}.") from error
