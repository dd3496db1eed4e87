"""Values into a request as OpenAPI's styles write them: path, query, headers, cookies."""

import json
from collections.abc import Mapping
from typing import Any, Final
from urllib.parse import quote, urlsplit

from contracts.apis import ApiCall, ApiParameter
from executor.answers import scalar
from executor.errors import BadConfig

_DOTS: Final = frozenset({"", ".", ".."})
_DELIMITERS: Final = {"form": ",", "spaceDelimited": "%20", "pipeDelimited": "%7C"}
Pairs = list[tuple[str, str]]


class Values:
    """What was given for the parameters of a call, by where they stand."""

    def __init__(self, call: ApiCall, given: Mapping[str, Mapping[str, Any]]) -> None:
        """`given`: by `path`, `query`, `header` and `cookie`. Raises `BadConfig` for what is missing or unknown."""
        self._call, self._given = call, given
        for where, values in given.items():
            known = {parameter.name for parameter in call.parameters if parameter.where == where}
            if strange := [name for name in values if name not in known]:
                raise BadConfig("There is no such parameter.", field=f"{_GROUPS[where]}/{strange[0][:200]}")
        for parameter in call.parameters:
            if parameter.required and given.get(parameter.where, {}).get(parameter.name) is None:
                raise BadConfig("This parameter is missing.", field=_field(parameter))

    def url(self, server: str, more: Mapping[str, str]) -> str:
        """The whole address. `more`: parameters of the query, in place of those of the same name."""
        query = [pair for name, pairs in self._query() if name not in more for pair in pairs]
        query += [(quote(name, safe=""), quote(value, safe="")) for name, value in more.items()]
        asked = "&".join(f"{name}={value}" for name, value in query)
        return f"{_base(server)}{self._path()}{f'?{asked}' if asked else ''}"

    def headers(self) -> dict[str, str]:
        """Headers, cookies among them."""
        made = {parameter.name: _written_plain(parameter, value) for parameter, value in self._of("header")}
        if cookies := self.cookies():
            made["Cookie"] = "; ".join(cookies)
        return made

    def cookies(self) -> list[str]:
        return [
            f"{name}={value}"
            for parameter, value in self._of("cookie")
            for name, value in _form(parameter, value)
        ]

    def _path(self) -> str:
        path = self._call.path
        for parameter, value in self._of("path"):
            written = _in_path(parameter, value)
            if written in _DOTS:
                raise BadConfig("This would change the path.", field=_field(parameter))
            path = path.replace(f"{{{parameter.name}}}", written)
        return quote(path, safe="/%:@!$&'()*+,;=~")

    def _query(self) -> list[tuple[str, Pairs]]:
        return [(parameter.name, _form(parameter, value)) for parameter, value in self._of("query")]

    def _of(self, where: str) -> list[tuple[ApiParameter, Any]]:
        values = self._given.get(where, {})
        return [
            (parameter, values[parameter.name])
            for parameter in self._call.parameters
            if parameter.where == where and values.get(parameter.name) is not None
        ]


_GROUPS: Final = {"path": "/path", "query": "/query", "header": "/headers", "cookie": "/cookies"}


def _field(parameter: ApiParameter) -> str:
    return f"{_GROUPS[parameter.where]}/{parameter.name}"


def _base(server: str) -> str:
    try:
        parts = urlsplit(server)
    except ValueError:
        raise BadConfig("This is no address.", field="/server") from None
    if parts.scheme not in ("http", "https") or parts.query or parts.fragment:
        raise BadConfig("This is no http or https address without a query.", field="/server")
    return server.rstrip("/")


def _items(value: Any) -> list[str] | None:
    """The parts of a list, encoded; None for anything else."""
    return [_one(item) for item in value if item is not None] if isinstance(value, list) else None


def _members(value: Any) -> Pairs:
    """The members of an object, encoded."""
    return [(quote(name, safe=""), _one(item)) for name, item in value.items() if item is not None]


def _one(value: Any) -> str:
    """One value, encoded; what lies deeper than a style says is JSON."""
    return quote(json.dumps(value) if isinstance(value, dict | list) else scalar(value), safe="")


def _joined(parameter: ApiParameter, value: Any, between: str, pairs: str) -> str:
    items = _items(value)
    if items is not None:
        return between.join(items)
    return between.join(f"{name}{pairs}{item}" for name, item in _members(value))


def _in_path(parameter: ApiParameter, value: Any) -> str:
    name, explode = quote(parameter.name, safe=""), parameter.explode
    if parameter.as_json or not isinstance(value, dict | list):
        written = quote(json.dumps(value), safe="") if parameter.as_json else _one(value)
        return {"label": f".{written}", "matrix": f";{name}={written}"}.get(parameter.style, written)
    match parameter.style:
        case "label":
            return "." + _joined(parameter, value, "." if explode else ",", "=" if explode else ",")
        case "matrix" if explode and isinstance(value, list):
            return "".join(f";{name}={item}" for item in _items(value) or ())
        case "matrix" if explode:
            return "".join(f";{member}={item}" for member, item in _members(value))
        case "matrix":
            return f";{name}={_joined(parameter, value, ',', ',')}"
        case _:
            return _joined(parameter, value, ",", "=" if explode else ",")


def _form(parameter: ApiParameter, value: Any) -> Pairs:
    """The pairs of a query, or of cookies."""
    name = quote(parameter.name, safe="")
    if parameter.as_json:
        return [(name, quote(json.dumps(value), safe=""))]
    if isinstance(value, dict):
        if parameter.style == "deepObject":
            return [(f"{name}%5B{member}%5D", item) for member, item in _members(value)]
        return _members(value) if parameter.explode else [(name, _joined(parameter, value, ",", ","))]
    items = _items(value)
    if items is None:
        return [(name, _one(value))]
    if parameter.explode:
        return [(name, item) for item in items]
    return [(name, _DELIMITERS.get(parameter.style, ",").join(items))]


def _written_plain(parameter: ApiParameter, value: Any) -> str:
    """A header's value: nothing is encoded, and what would end the header is refused where it is sent."""
    if parameter.as_json:
        return json.dumps(value)
    if isinstance(value, list):
        return ",".join(_plain(item) for item in value if item is not None)
    if isinstance(value, dict):
        pairs = "=" if parameter.explode else ","
        return ",".join(f"{name}{pairs}{_plain(item)}" for name, item in value.items() if item is not None)
    return scalar(value)


def _plain(value: Any) -> str:
    return json.dumps(value) if isinstance(value, dict | list) else scalar(value)
