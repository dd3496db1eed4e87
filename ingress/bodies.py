"""What a delivery's body says, by its content type. The raw bytes are kept whatever it says.

`python-multipart` parses forms; JSON is checked, not decoded: its text goes on as it came, so that no number or key
changes on the way.
"""

from collections.abc import Mapping
from typing import Any, Final
from urllib.parse import parse_qsl

import msgspec
from msgspec import Raw, Struct
from python_multipart import MultipartParser
from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartState, parse_options_header

from chassis.edge.problems import Problem
from contracts.codec import Malformed, depth_exceeds, explain
from contracts.limits import FORM_FIELDS, HEADER_BYTES, JSON_DEPTH, MULTIPART_PARTS

_JSON: Final = msgspec.json.Decoder(Any)


class File(Struct, frozen=True, kw_only=True):
    """An uploaded file. A type of its own: no field of a JSON body can pass for one."""

    name: str
    filename: str
    content_type: str
    data: bytes


class Body(Struct, frozen=True, kw_only=True):
    """A parsed body."""

    content_type: str
    value: Raw | Any
    """JSON text as it came (`Raw`), or what the other content types mean. Binary bodies have none."""
    files: tuple[File, ...] = ()
    binary: bool = False


class UnsupportedType(Exception):
    """The content type is not one that can be read."""


def parse(body: bytes, content_type: str) -> Body:
    """Read a body. Raises `Malformed` when it is not what its content type says."""
    kind, options = parse_options_header(content_type)
    kind_text = kind.decode("latin-1").lower()
    match kind_text:
        case "":
            return _guess(body)
        case "application/json":
            return Body(content_type=kind_text, value=checked_json(body))
        case "application/x-www-form-urlencoded":
            return Body(content_type=kind_text, value=_form(body))
        case "multipart/form-data":
            return _multipart(body, options.get(b"boundary", b""), kind_text)
    if kind_text.endswith("+json"):
        return Body(content_type=kind_text, value=checked_json(body))
    if kind_text.startswith("text/") or kind_text in ("application/xml", "application/yaml"):
        return Body(content_type=kind_text, value=_text(body))
    return Body(content_type=kind_text, value=None, binary=True)


def checked_json(body: bytes) -> Raw:
    """JSON text that every later reader can read: valid, UTF-8, not nested too deeply."""
    if not body.strip():
        return Raw(b"null")
    if depth_exceeds(body):
        raise Malformed(f"The JSON is nested deeper than {JSON_DEPTH} levels.")
    try:
        _JSON.decode(body)
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError, ValueError) as error:
        raise Malformed(*explain(error)) from error
    return Raw(body)


def _guess(body: bytes) -> Body:
    """A body without a content type: nothing, JSON, text, or bytes."""
    if not body:
        return Body(content_type="", value=None)
    try:
        return Body(content_type="application/json", value=checked_json(body))
    except Malformed:
        try:
            return Body(content_type="text/plain", value=_text(body))
        except Malformed:
            return Body(content_type="application/octet-stream", value=None, binary=True)


def _text(body: bytes) -> str:
    try:
        return body.decode()
    except UnicodeDecodeError as error:
        raise Malformed(*explain(error)) from error


def _form(body: bytes) -> dict[str, str | list[str]]:
    return gathered(_pairs(body, strict=bool(body)))


def page_fields(body: bytes) -> dict[str, str]:
    """What a page of ours sends: the first value of each name. Raises `Problem`."""
    try:
        pairs = _pairs(body, strict=False)
    except Malformed as malformed:
        raise Problem("malformed", str(malformed)) from None
    # The first one stays, so the last is set first.
    return dict(reversed(pairs))


def _pairs(body: bytes, *, strict: bool) -> list[tuple[str, str]]:
    try:
        return parse_qsl(
            body.decode("ascii"),
            keep_blank_values=True,
            strict_parsing=strict,
            errors="strict",
            max_num_fields=FORM_FIELDS,
        )
    except (ValueError, UnicodeDecodeError) as error:
        raise Malformed("The body is not a form, or has too many fields.") from error


def gathered(pairs: list[tuple[str, str]]) -> dict[str, str | list[str]]:
    """Pairs as an object: a name that comes once has its value, one that comes often the list of them."""
    found: dict[str, str | list[str]] = {}
    for name, value in pairs:
        before = found.get(name)
        if before is None:
            found[name] = value
        elif isinstance(before, list):
            before.append(value)
        else:
            found[name] = [before, value]
    return found


class _Parts:
    """Collects the parts of a multipart body, within bounds."""

    def __init__(self) -> None:
        self.parts: list[tuple[Mapping[str, str], bytes]] = []
        self._headers: dict[str, str] = {}
        self._name = self._value = self._data = bytearray()

    def callbacks(self) -> dict[str, Any]:
        return {
            "on_part_begin": self._begin,
            "on_header_field": lambda data, start, end: self._name.extend(data[start:end]),
            "on_header_value": lambda data, start, end: self._value.extend(data[start:end]),
            "on_header_end": self._header,
            "on_part_data": lambda data, start, end: self._data.extend(data[start:end]),
            "on_part_end": lambda: self.parts.append((self._headers, bytes(self._data))),
        }

    def _begin(self) -> None:
        if len(self.parts) >= MULTIPART_PARTS:
            raise FormParserError("too many parts")
        self._headers = {}
        self._name, self._value, self._data = bytearray(), bytearray(), bytearray()

    def _header(self) -> None:
        if len(self._value) + len(self._name) > HEADER_BYTES or len(self._headers) > 20:
            raise FormParserError("part headers too large")
        self._headers[self._name.decode("latin-1").lower()] = self._value.decode("utf-8", "replace")
        self._name, self._value = bytearray(), bytearray()


def _multipart(body: bytes, boundary: bytes, kind: str) -> Body:
    if not 0 < len(boundary) <= 70:
        raise Malformed("The multipart body has no boundary.")
    collected = _Parts()
    try:
        parser = MultipartParser(boundary, collected.callbacks())  # type: ignore[arg-type]  # A plain dict of callables.
        parser.write(body)
        parser.finalize()
        if parser.state is not MultipartState.END:
            raise FormParserError("cut off")
    except FormParserError as error:
        raise Malformed("The body is not well-formed multipart/form-data.") from error
    fields: list[tuple[str, str]] = []
    files: list[File] = []
    for headers, data in collected.parts:
        _, options = parse_options_header(headers.get("content-disposition", ""))
        name = options.get(b"name", b"").decode("utf-8", "replace")
        if b"filename" in options:
            content_type = headers.get("content-type", "application/octet-stream")[:200]
            filename = options[b"filename"].decode("utf-8", "replace")[:255]
            files.append(File(name=name, filename=filename, content_type=content_type, data=data))
        else:
            fields.append((name, _text(data)))
    return Body(content_type=kind, value={"fields": gathered(fields)}, files=tuple(files))
