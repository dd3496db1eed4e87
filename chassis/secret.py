"""Values that nobody may see: the type that holds them, the kinds there are, and what a log line may say.

Rule that holds here: a secret leaves a `Secret` only by `reveal()`, so that every place that sees one can be found
by searching for that word.
"""

import re
from collections.abc import Iterable, Mapping, MutableMapping
from typing import Any, Final, Literal, NoReturn, TypeAlias, assert_never, final
from urllib.parse import quote_plus, unquote_plus

import msgspec

SEEN: Final = "Secret(…)"
REDACTED: Final = "[redacted]"


@final
class Secret:
    """A string or bytes that does not show itself: not printed, not encoded, not pickled, not compared."""

    __slots__ = ("_value",)

    def __init__(self, value: str | bytes) -> None:
        self._value = value.encode() if isinstance(value, str) else bytes(value)

    def reveal(self) -> bytes:
        return self._value

    def reveal_text(self) -> str:
        return self._value.decode()

    def __repr__(self) -> str:
        return SEEN

    def __format__(self, spec: str) -> str:
        return SEEN

    def __reduce_ex__(self, protocol: object) -> NoReturn:
        raise TypeError("a Secret is not pickled and not copied")


class HeaderSecret(msgspec.Struct, frozen=True, kw_only=True, tag_field="kind", tag="header"):
    """A header with a name of the other side's choosing, as `X-Api-Key`."""

    name: str
    value: Secret


class BasicSecret(msgspec.Struct, frozen=True, kw_only=True, tag_field="kind", tag="basic"):
    """User and password (HTTP Basic)."""

    user: str
    password: Secret


class BearerSecret(msgspec.Struct, frozen=True, kw_only=True, tag_field="kind", tag="bearer"):
    """A token after `Authorization: Bearer`."""

    token: Secret


class QuerySecret(msgspec.Struct, frozen=True, kw_only=True, tag_field="kind", tag="api_key_query"):
    """A key that the other side wants in the URL's query."""

    name: str
    value: Secret


class HmacSecret(msgspec.Struct, frozen=True, kw_only=True, tag_field="kind", tag="hmac"):
    """The key of a signature. With prefix `whsec_` for Standard Webhooks, as their senders show it."""

    key: Secret


class SmtpSecret(msgspec.Struct, frozen=True, kw_only=True, tag_field="kind", tag="smtp"):
    """The account at a mail server."""

    user: str
    password: Secret


class TextSecret(msgspec.Struct, frozen=True, kw_only=True, tag_field="kind", tag="text"):
    """Any other secret text."""

    text: Secret


SecretKind: TypeAlias = Literal["header", "basic", "bearer", "api_key_query", "hmac", "smtp", "text"]
SecretValue: TypeAlias = (
    HeaderSecret | BasicSecret | BearerSecret | QuerySecret | HmacSecret | SmtpSecret | TextSecret
)


def _reveal(value: object) -> str:
    if isinstance(value, Secret):
        return value.reveal_text()
    raise TypeError(f"a {type(value).__name__} is not part of a secret")


def _conceal(kind: type, value: object) -> Secret:
    if kind is Secret and isinstance(value, str):
        return Secret(value)
    raise TypeError("a secret is text")


_ENCODER: Final = msgspec.json.Encoder(enc_hook=_reveal)
_DECODER: Final = msgspec.json.Decoder(SecretValue, dec_hook=_conceal)


def encode_secret(value: SecretValue) -> Secret:
    """Make the plaintext that is sealed. The only encoder that knows how to reveal."""
    return Secret(_ENCODER.encode(value))


def decode_secret(plaintext: Secret) -> SecretValue:
    """Raises `msgspec.DecodeError` when this is no secret of ours."""
    value: SecretValue = _DECODER.decode(plaintext.reveal())
    return value


def key_material(value: SecretValue) -> Secret:
    """What a signature or a comparison is made with; `user:password` for a pair."""
    match value:
        case HeaderSecret() | QuerySecret():
            return value.value
        case BasicSecret() | SmtpSecret():
            return Secret(value.user.encode() + b":" + value.password.reveal())
        case BearerSecret():
            return value.token
        case HmacSecret():
            return value.key
        case TextSecret():
            return value.text
    assert_never(value)


_HOST_PATTERN: Final = re.compile(r"(?:\*\.)?[a-z0-9_](?:[a-z0-9_.-]{0,251}[a-z0-9_])?|[0-9a-f:.]{2,45}")


def host_pattern(text: str) -> str:
    """Normalise `Api.Example.com`, `*.example.com` or an address. Raises ValueError on anything wider."""
    pattern = text.strip().lower().removesuffix(".").removeprefix("[").removesuffix("]")
    pattern = pattern if pattern.isascii() else pattern.encode("idna").decode()
    if not _HOST_PATTERN.fullmatch(pattern) or ".." in pattern:
        raise ValueError(f"not a host name or *.host name: {text!r}")
    return pattern


_ADDRESS: Final = re.compile(r"[0-9.]+|.*:.*")


def host_allowed(host: str, patterns: Iterable[str]) -> bool:
    """Say whether a secret may go to this (normalised) host. No pattern, no host."""
    is_name = not _ADDRESS.fullmatch(host)  # An address has no domain above it.
    return any(
        is_name and host.endswith(pattern[1:]) if pattern.startswith("*.") else host == pattern
        for pattern in patterns
    )


# Names under which the outside world carries secrets; nothing below them is logged or stored.
HIDDEN_HEADERS: Final = frozenset(
    {"authorization", "cookie", "set-cookie", "x-api-key", "proxy-authorization"}
)
_HIDDEN_WORDS: Final = frozenset({"token", "key", "apikey", "sig", "signature", "secret", "password"})
_USERINFO: Final = re.compile(r"(?<=://)[^/?#\s]*@")
_QUERY: Final = re.compile(r"(?<=\?)[^#\s\"'<>]+")
_WORDS: Final = re.compile(r"[^a-z0-9]+")
_DEEPEST: Final = 8


def redact_headers(headers: Iterable[tuple[str, str]]) -> list[tuple[str, str]]:
    return [(name, REDACTED if _hidden_header(name) else value) for name, value in headers]


def redact_url(url: str) -> str:
    """Blank out user, password and every query value whose name speaks of a secret; in any text with URLs."""
    return _QUERY.sub(lambda found: _redact_query(found[0]), _USERINFO.sub(f"{REDACTED}@", url))


def redact(_logger: object, _name: str, event_dict: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    """A structlog processor: no secret goes past it, whatever a caller hands over."""
    for key, value in event_dict.items():
        event_dict[key] = REDACTED if _hidden_header(key) else _redacted(value, _DEEPEST)
    return event_dict


def _redact_query(query: str) -> str:
    pairs = (pair.partition("=") for pair in query.split("&"))
    return "&".join(
        f"{name}{equals}{quote_plus(REDACTED) if equals and _speaks_of_a_secret(name) else value}"
        for name, equals, value in pairs
    )


def _speaks_of_a_secret(name: str) -> bool:
    return not _HIDDEN_WORDS.isdisjoint(_WORDS.split(unquote_plus(name).lower()))


def _hidden_header(name: object) -> bool:
    return isinstance(name, str) and name.lower().replace("_", "-") in HIDDEN_HEADERS


def _redacted(value: Any, depth: int) -> Any:
    match value:
        case str():
            shown: Any = redact_url(value) if "://" in value else value
        case Secret():
            shown = REDACTED
        case Mapping() | list() | tuple() | set() | frozenset():
            # Deeper than any honest log line: unseen is unlogged.
            shown = _redacted_items(value, depth - 1) if depth else REDACTED
        case _:
            shown = value
    return shown


def _redacted_items(items: Any, depth: int) -> Any:
    if isinstance(items, Mapping):
        return {
            key: REDACTED if _hidden_header(key) else _redacted(item, depth) for key, item in items.items()
        }
    if isinstance(items, tuple) and len(items) == 2 and _hidden_header(items[0]):
        return (items[0], REDACTED)  # One header of a list of pairs.
    return [_redacted(item, depth) for item in items]
