"""Where an API's operations are called: the nearest server that its document names."""

import re
from typing import Any, Final
from urllib.parse import urljoin, urlsplit

from gateway.apis.documents import Document, listed
from gateway.apis.pointers import Refused

_VARIABLE: Final = re.compile(r"\{([^{}]*)\}")


def server_of(
    document: Document, operation: dict[str, Any], item: dict[str, Any], at: str, given: str, base: str
) -> str:
    """The address that paths stand under, without a slash at its end; empty when there is none.

    `given` is the importer's own choice, and wins.
    """
    if given:
        return address(given, "/server")
    for source, place in ((operation, at), (item, at.rpartition("/")[0]), (document.root, "")):
        servers = listed(source.get("servers"), f"{place}/servers")
        if servers:
            return _server(document, servers[0], f"{place}/servers/0", base)
    return ""


def _server(document: Document, value: Any, pointer: str, base: str) -> str:
    server, at = document.object_at(value, pointer)
    url = server.get("url")
    if not isinstance(url, str):
        raise Refused(f"{at}/url", "A server has an address.")
    variables, _ = document.object_at(server.get("variables"), f"{at}/variables")

    def filled(found: re.Match[str]) -> str:
        variable = variables.get(found[1])
        default = variable.get("default") if isinstance(variable, dict) else None
        if not isinstance(default, str):
            raise Refused(f"{at}/variables", f"The variable {found[1][:100]} has no default.")
        return default

    url = _VARIABLE.sub(filled, url[:2_000])
    if not urlsplit(url).scheme:
        if not base:
            return ""
        url = urljoin(base, url)
    return address(url, f"{at}/url")


def address(url: str, pointer: str) -> str:
    """Raises `Refused` for anything but an http or https address."""
    try:
        parts = urlsplit(url)
        fits = parts.scheme in ("http", "https") and bool(parts.hostname) and "@" not in parts.netloc
    except ValueError:
        fits = False
    if not fits or len(url) > 2_000 or "?" in url or "#" in url or not url.isascii() or not url.isprintable():
        raise Refused(pointer, "This is no http or https address without a query.")
    return url.rstrip("/")
