"""YAML as JSON's values, out of the parser's events one by one: nothing here or below calls itself.

libyaml's own composer does, and a text of brackets ends the process with it. An alias counts as often as it is used.
"""

import re
from collections.abc import Iterator
from typing import Any, Final

import yaml
from msgspec import Struct

from chassis.pointers import escaped
from contracts.limits import OPENAPI_DEPTH, OPENAPI_VALUES
from gateway.apis.pointers import Refused

_NUMBER: Final = re.compile(r"[-+]?(?:0|[1-9][0-9]{0,17})")
_FLOAT: Final = re.compile(r"[-+]?(?:\.[0-9]{1,17}|[0-9]{1,17}(?:\.[0-9]{0,17})?)(?:[eE][-+]?[0-9]{1,3})?")
_CONSTANTS: Final = {
    "": None, "~": None, "null": None, "true": True, "True": True, "false": False, "False": False,
}  # fmt: skip
_CORE: Final = "tag:yaml.org,2002:"
_TEXT: Final = frozenset({"!", f"{_CORE}str"})
_KNOWN: Final = frozenset(f"{_CORE}{kind}" for kind in ("int", "float", "bool", "null", "seq", "map")) | _TEXT


def values_of(text: str) -> Any:
    """The one document in a text. Raises `Refused`."""
    loader = yaml.CSafeLoader(text)
    composing = _Composing()
    try:
        for event in _events(loader):
            composing.take(event)
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        raise Refused(
            composing.pointer(), f"This is not YAML{f', line {mark.line + 1}' if mark else ''}."
        ) from None
    finally:
        loader.dispose()
    return composing.document()


def _events(loader: Any) -> Iterator[Any]:
    while loader.check_event():
        yield loader.get_event()


class _Made(Struct):
    """A value that an alias may mean, with what it counts."""

    value: Any
    count: int
    height: int


class _Open(Struct):
    """A list or an object that is not at its end."""

    value: Any
    anchor: str | None
    key: str | None = None
    count: int = 1
    height: int = 1


class _Composing:
    def __init__(self) -> None:
        self._open: list[_Open] = []
        self._named: dict[str, _Made | None] = {}
        """By anchor; None while it is open."""
        self._documents: list[Any] = []

    def document(self) -> Any:
        if len(self._documents) != 1:
            raise Refused("", "The text is not one document.")
        return self._documents[0]

    def pointer(self) -> str:
        """Where the next value stands."""
        parts = [
            "" if each.key is None and isinstance(each.value, dict) else _part(each) for each in self._open
        ]
        return "".join(parts)

    def take(self, event: Any) -> None:
        match event:
            case yaml.ScalarEvent():
                self._scalar(event)
            case yaml.AliasEvent():
                self._alias(event.anchor)
            case yaml.SequenceStartEvent() | yaml.MappingStartEvent():
                self._begin(event)
            case yaml.SequenceEndEvent() | yaml.MappingEndEvent():
                ended = self._open.pop()
                self._put(_Made(ended.value, ended.count, ended.height), ended.anchor)

    def _begin(self, event: Any) -> None:
        mapping = isinstance(event, yaml.MappingStartEvent)
        if self._awaits_key():
            raise Refused(self.pointer(), "A key is neither a text nor a number.")
        if event.tag is not None and event.tag not in _KNOWN:
            raise self._strange()
        if len(self._open) >= OPENAPI_DEPTH:
            raise Refused(self.pointer(), "The document is nested too deeply.")
        if event.anchor is not None:
            self._named[event.anchor] = None
        self._open.append(_Open({} if mapping else [], event.anchor))

    def _scalar(self, event: Any) -> None:
        if event.tag is not None and event.tag not in _KNOWN:
            raise self._strange()
        if self._awaits_key():
            self._key(event)
            return
        plain = not event.style and event.tag not in _TEXT
        self._put(_Made(_plain(event.value) if plain else event.value, 1, 0), event.anchor)

    def _key(self, event: Any) -> None:
        within = self._open[-1]
        if event.anchor is not None or (event.value == "<<" and not event.style):
            raise Refused(self.pointer(), "A key is a text; mappings are not merged.")
        within.key = event.value
        if event.value in within.value:
            raise Refused(self.pointer(), "This key stands twice.")

    def _alias(self, name: str | None) -> None:
        if self._awaits_key():
            raise Refused(self.pointer(), "A key is neither a text nor a number.")
        made = self._named.get(name or "")
        if made is None:
            raise Refused(self.pointer(), "This alias contains itself, or means nothing.")
        if len(self._open) + made.height > OPENAPI_DEPTH:
            raise Refused(self.pointer(), "The document is nested too deeply.")
        self._put(made, None)

    def _put(self, made: _Made, anchor: str | None) -> None:
        if anchor is not None:
            self._named[anchor] = made
        if not self._open:
            self._documents.append(made.value)
            return
        within = self._open[-1]
        within.count += made.count
        within.height = max(within.height, made.height + 1)
        if sum(each.count for each in self._open) > OPENAPI_VALUES:
            raise Refused(
                self.pointer(), f"The document has more than {OPENAPI_VALUES:,} values, its aliases counted."
            )
        if isinstance(within.value, dict):
            within.value[within.key] = made.value
            within.key = None
        else:
            within.value.append(made.value)

    def _awaits_key(self) -> bool:
        return bool(self._open) and isinstance(self._open[-1].value, dict) and self._open[-1].key is None

    def _strange(self) -> Refused:
        return Refused(self.pointer(), "The document has a tag of YAML that JSON has no value for.")


def _part(within: _Open) -> str:
    return f"/{escaped(within.key)}" if within.key is not None else f"/{len(within.value)}"


def _plain(text: str) -> Any:
    if text in _CONSTANTS:
        return _CONSTANTS[text]
    if _NUMBER.fullmatch(text):
        return int(text)
    return float(text) if _FLOAT.fullmatch(text) else text
