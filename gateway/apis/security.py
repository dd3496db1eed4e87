"""How a document says that callers show who they are, as far as one stored secret can show it."""

from typing import Any, Final

from chassis.pointers import escaped
from contracts.apis import ApiScheme
from gateway.apis.documents import Document, listed
from gateway.apis.pointers import Refused

_SCHEMES: Final = 10


class Unsupported(Exception):
    """An operation of which no node can be made; the text says why."""

    def __init__(self, pointer: str, reason: str) -> None:
        super().__init__(reason)
        self.pointer = pointer


def schemes_of(document: Document, operation: dict[str, Any], at: str) -> tuple[ApiScheme, ...]:
    """The ways of which one is enough; none when everybody may call. Raises `Refused` or `Unsupported`."""
    own = "security" in operation
    stated = operation["security"] if own else document.root.get("security")
    place = f"{at}/security" if own else "/security"
    found: dict[str, ApiScheme] = {}
    together = reason = ""
    ways = listed(stated, place)
    for number, way in enumerate(ways[:_SCHEMES]):
        if not isinstance(way, dict):
            raise Refused(f"{place}/{number}", "This is no object.")
        if len(way) > 1:
            together = f"{place}/{number}"
        for name, scopes in way.items() if len(way) == 1 else ():
            try:
                found[name] = _scheme(document, name, scopes)
            except Unsupported as error:
                together, reason = error.pointer, str(error)
    if ways and not found and {} not in ways:
        raise Unsupported(together or place, reason or "It wants several secrets at once.")
    return tuple(found.values())


def _scheme(document: Document, name: str, scopes: Any) -> ApiScheme:
    components, _ = document.object_at(document.root.get("components"), "/components")
    known, _ = document.object_at(components.get("securitySchemes"), "/components/securitySchemes")
    at = f"/components/securitySchemes/{escaped(name)}"
    if name not in known:
        raise Refused(at, f"There is no security scheme {name[:100]}.")
    scheme, at = document.object_at(known[name], at)
    kind, form = scheme.get("type"), str(scheme.get("scheme", "")).lower()
    if kind == "apiKey":
        return _key(name, scheme, at)
    if kind == "http" and form == "basic":
        return ApiScheme(name=name[:200], kind="basic")
    if (kind == "http" and form == "bearer") or kind == "openIdConnect":
        return ApiScheme(name=name[:200], kind="bearer")
    if kind == "oauth2":
        return _oauth(document, name, scheme, scopes, at)
    raise Unsupported(at, "This way to show who calls is not known.")


def _key(name: str, scheme: dict[str, Any], at: str) -> ApiScheme:
    place, field = scheme.get("in"), scheme.get("name")
    if not isinstance(field, str) or not 0 < len(field) <= 200:
        raise Refused(f"{at}/name", "A key has a name.")
    match place:
        case "header" | "query" | "cookie":
            return ApiScheme(name=name[:200], kind=place, field=field)
        case _:
            raise Refused(f"{at}/in", "A key stands in a header, the query or a cookie.")


def _oauth(document: Document, name: str, scheme: dict[str, Any], scopes: Any, at: str) -> ApiScheme:
    """With client credentials we ask for tokens; with any other flow a person's token is given as a secret."""
    flows, flows_at = document.object_at(scheme.get("flows"), f"{at}/flows")
    if "clientCredentials" not in flows:
        return ApiScheme(name=name[:200], kind="bearer")
    flow, flow_at = document.object_at(flows["clientCredentials"], f"{flows_at}/clientCredentials")
    url = flow.get("tokenUrl")
    if not isinstance(url, str) or not url.startswith(("https://", "http://")) or len(url) > 2_000:
        raise Unsupported(f"{flow_at}/tokenUrl", "This is no http or https address.")
    asked = [scope for scope in listed(scopes, at) if isinstance(scope, str)]
    return ApiScheme(name=name[:200], kind="oauth2", token_url=url, scopes=tuple(asked[:50]))
