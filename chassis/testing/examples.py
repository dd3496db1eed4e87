"""One example of every message, every field filled: for golden files, fuzzing and documentation."""

from datetime import UTC, datetime
from typing import Any

import msgspec
from msgspec import Raw, Struct, inspect

from contracts.codec import encode
from contracts.commits import Commit, DomainCommit
from contracts.payloads import Inline
from contracts.reference import every_event
from contracts.runs import RunEvent

MOMENT = datetime(2026, 11, 21, 12, 0, 0, tzinfo=UTC)
_BY_PATTERN = {
    r"^(_|[a-z0-9][a-z0-9_-]{0,62})$": "org_default",
    r"^[A-Za-z0-9_-]{1,64}$": "0d5b2c1e-7a55-5c1e-9a55-1f2e3d4c5b6a",
    r"^[a-z][a-z0-9_]{0,63}$": "fetch",
    r"^[a-z][a-z0-9_]{0,31}$": "petstore",
    r"^[a-z][a-z0-9_]{0,31}(\.[a-z][a-z0-9_]{0,31}){0,3}$": "http.request",
    r"^[a-z][a-z0-9-]{0,31}$": "default",
    r"^[a-z][a-z0-9_-]{0,63}$": "paid",
    r"^[a-z][a-z0-9_\[\].]*$": "fetch",
    r"^[0-9a-f]{64}$": "ab" * 32,
    r"^[a-z0-9][a-z0-9_-]{0,63}$": "big-order",
    r"^(key|member):[A-Za-z0-9_-]{1,64}$": "key:k1",
    r"^[A-Za-z0-9-]{1,64}$": "X-Signature",
    r"^[a-z]+\.[a-z-]+$": "run.failed",
    r"^[A-Za-z][A-Za-z0-9_]{0,63}$": "email",
    r"^[A-Za-z0-9_-]{1,128}$": "s-1",
    r"^[a-z]{2,3}(-[A-Za-z0-9]{2,8})?$": "en",
    r"^(/([^/~]|~[01])*)*$": "/card",
}


def example(kind: type[Struct]) -> Any:
    """An instance of a struct in which no optional field is left at its default."""
    return msgspec.json.decode(encode(_value(inspect.type_info(kind))), type=kind)


def sample(kind: Any) -> Any:
    """A value of any type that messages have, as it would stand in JSON."""
    return _value(inspect.type_info(kind))


def examples() -> dict[str, Any]:
    """Tag → example, for every event of every aggregate."""
    return {
        str(kind.__struct_config__.tag): example(kind) for kinds in every_event().values() for kind in kinds
    }


def commit(*events: RunEvent, org: str, run: str, version: int = 1, **more: Any) -> Commit[RunEvent]:
    """A commit of a run, with nothing in its head but its place and what `more` names."""
    return Commit[RunEvent](org=org, run=run, version=version, events=events, **_head(version, more))


def domain_commit(
    aggregate: str, aggregate_id: str, *events: Any, org: str, version: int = 1, **more: Any
) -> DomainCommit[Any]:
    """The same of anything else that has a history."""
    return DomainCommit[Any](
        org=org,
        aggregate=aggregate,
        aggregate_id=aggregate_id,
        version=version,
        events=events,
        **_head(version, more),
    )


def _head(version: int, more: dict[str, Any]) -> dict[str, Any]:
    nothing = dict.fromkeys(("causation_id", "correlation_id", "engine_version", "key_id", "prev_hash"), "")
    return nothing | {"id": f"c{version}", "time": MOMENT, "actor": "system"} | more


def _value(kind: inspect.Type) -> Any:  # noqa: C901, PLR0911, PLR0912  # A table by type.
    match kind:
        case inspect.Metadata():
            return _value(kind.type)
        case inspect.StructType(cls=cls) if cls is Inline:
            return {"in": "event", "value": Raw(b'{"text":"value","number":1.5}')}
        case inspect.StructType():
            tagged = {kind.tag_field: kind.tag} if kind.tag_field else {}
            return tagged | {f.encode_name: _value(f.type) for f in kind.fields}
        case inspect.UnionType():
            return _value(next(t for t in kind.types if not isinstance(t, inspect.NoneType)))
        case inspect.LiteralType():
            return kind.values[0]
        case inspect.StrType():
            return _BY_PATTERN.get(kind.pattern or "", "text" if kind.pattern is None else kind.pattern)
        case inspect.IntType():
            return max(1, kind.ge or 0)
        case inspect.FloatType():
            return max(1.0, float(kind.ge or 0), float(kind.gt or 0))
        case inspect.BoolType():
            return True
        case inspect.DateTimeType():
            return MOMENT
        case inspect.DateType():
            return MOMENT.date()
        case inspect.VarTupleType() | inspect.ListType():
            return [_value(kind.item_type)]
        case inspect.TupleType():
            return [_value(item) for item in kind.item_types]
        case inspect.DictType():
            return {"name": _value(kind.value_type)}
        case inspect.AnyType():
            return "anything"
        case inspect.RawType():
            return Raw(b'"raw"')
    raise TypeError(f"no example for {kind}")
