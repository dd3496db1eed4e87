"""Whether a delivery comes from whom it says it does.

Rules that hold here: pure and total (hostile input is refused, never raised on); every comparison takes the same time
wherever it fails; what is signed can be cut into id, time and body in one way only, so that no boundary can be shifted.
"""

import base64
import binascii
import hashlib
import hmac
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Final, Literal, TypeAlias

import msgspec
from msgspec import Struct

from chassis.secret import Secret
from contracts.limits import DEDUPE_KEY_BYTES, REPLAY_SECONDS
from contracts.triggers import (
    Authentication,
    Basic,
    Github,
    HeaderToken,
    Hmac,
    NoAuthentication,
    Slack,
    StandardWebhooks,
    Stripe,
)

Headers: TypeAlias = Mapping[str, str] | Mapping[bytes, bytes] | Iterable[tuple[bytes, bytes]]
Reason: TypeAlias = Literal[
    "no key", "missing header", "repeated header", "malformed header", "time is off", "no match"
]
PresetName: TypeAlias = Literal["github", "slack", "stripe", "standard_webhooks", "idempotency_key"]

_TIME: Final = re.compile(rb"[1-9][0-9]{0,11}")
# Printable ASCII without the full stop: `id.time.body` then has one reading.
_ID: Final = re.compile(rb"[!-\-/-~]{1,256}")
_HEX: Final = re.compile(rb"[0-9A-Fa-f]{40,128}")
_BASE64: Final = re.compile(rb"[A-Za-z0-9+/]{27,86}={0,2}")
_MOST_SIGNATURES: Final = 16
_LEAST_STANDARD_KEY: Final = 16


class Verified(Struct, frozen=True):
    """The sender knows one of the keys. `key` is its place in the list: not 0 means that a rotation is not finished."""

    key: int = 0
    time: int | None = None


class Refused(Struct, frozen=True):
    """The answer is the same 401 for all of them; the reason is for the trigger's owner."""

    reason: Reason


class _Doubt(Exception):
    def __init__(self, reason: Reason) -> None:
        super().__init__(reason)
        self.reason: Reason = reason


class _Claim(Struct, frozen=True, kw_only=True):
    """What a delivery offers as proof: signatures in text form over `head` + body."""

    offered: Sequence[bytes]
    head: bytes = b""
    time: int | None = None
    algorithm: str = "sha256"
    text: Callable[[bytes], bytes] = binascii.hexlify
    key: Callable[[bytes], bytes] = bytes


def verify(
    scheme: Authentication, headers: Headers, body: bytes, now: float, keys: Sequence[Secret]
) -> Verified | Refused:
    """Judge a delivery. `keys` are the secret's values (`OpenedSecret.keys`), `now` is in Unix seconds. Never raises."""
    if isinstance(scheme, NoAuthentication):
        return Verified()
    try:
        if isinstance(scheme, Basic | HeaderToken):
            return _same(_shown(scheme, headers), keys)
        claim = _claim(scheme, headers)
        if claim.time is not None and not abs(now - claim.time) <= REPLAY_SECONDS:
            raise _Doubt("time is off")
        return _signed(claim, body, keys)
    except _Doubt as doubt:
        return Refused(doubt.reason)


def _same(shown: bytes, keys: Sequence[Secret]) -> Verified | Refused:
    # Hashes have one length: how long the true one is does not show either.
    digest = hashlib.sha256(shown).digest()
    return _first(
        [
            bool(key.reveal()) and hmac.compare_digest(digest, hashlib.sha256(key.reveal()).digest())
            for key in keys
        ],
        None,
    )


def _signed(claim: _Claim, body: bytes, keys: Sequence[Secret]) -> Verified | Refused:
    matches: list[bool] = []
    for secret in keys:
        key = claim.key(secret.reveal())
        mac = hmac.new(key, claim.head, claim.algorithm)
        mac.update(body)
        expected = claim.text(mac.digest())
        found = [hmac.compare_digest(expected, offered) for offered in claim.offered]
        matches.append(bool(key) and any(found))
    return _first(matches, claim.time)


def _first(matches: list[bool], time: int | None) -> Verified | Refused:
    if not matches:
        return Refused("no key")
    return Verified(matches.index(True), time) if any(matches) else Refused("no match")


def _shown(scheme: Basic | HeaderToken, headers: Headers) -> bytes:
    """The password or token that the delivery shows."""
    if isinstance(scheme, HeaderToken):
        name = scheme.header.lower()
        value = _field(headers, name)
        word, _, token = value.partition(b" ")
        return token.strip() if name == "authorization" and word.lower() == b"bearer" else value
    word, _, pair = _field(headers, "authorization").partition(b" ")
    try:
        decoded = base64.b64decode(pair.strip(), validate=True)
    except binascii.Error:
        raise _Doubt("malformed header") from None
    if word.lower() != b"basic" or b":" not in decoded:
        raise _Doubt("malformed header")
    return decoded


def _claim(scheme: Hmac | StandardWebhooks | Github | Stripe | Slack, headers: Headers) -> _Claim:
    match scheme:
        case Github():
            return _Claim(offered=[_hex(_after(b"sha256=", _field(headers, "x-hub-signature-256")))])
        case Slack():
            time = _field(headers, "x-slack-request-timestamp")
            return _Claim(
                offered=[_hex(_after(b"v0=", _field(headers, "x-slack-signature")))],
                head=b"v0:" + time + b":",
                time=_seconds(time),
            )
        case Stripe():
            return _stripe(_field(headers, "stripe-signature"))
        case StandardWebhooks():
            return _standard(headers)
        case Hmac():
            return _generic(scheme, headers)


def _generic(scheme: Hmac, headers: Headers) -> _Claim:
    offered = _after(scheme.prefix.encode(), _field(headers, scheme.header.lower()))
    time = _field(headers, scheme.timestamp_header.lower()) if scheme.timestamp_header else None
    return _Claim(
        offered=[_hex(offered) if scheme.encoding == "hex" else _base64(offered)],
        head=time + b"." if time is not None else b"",
        time=_seconds(time) if time is not None else None,
        algorithm=scheme.algorithm,
        text=binascii.hexlify if scheme.encoding == "hex" else base64.b64encode,
    )


def _standard(headers: Headers) -> _Claim:
    identity, time = _field(headers, "webhook-id"), _field(headers, "webhook-timestamp")
    if not _ID.fullmatch(identity):
        raise _Doubt("malformed header")
    entries = _field(headers, "webhook-signature").split(b" ")[:_MOST_SIGNATURES]
    offered = [entry[3:] for entry in entries if entry.startswith(b"v1,") and _BASE64.fullmatch(entry[3:])]
    if not offered:
        raise _Doubt("malformed header")
    return _Claim(
        offered=offered,
        head=identity + b"." + time + b".",
        time=_seconds(time),
        text=base64.b64encode,
        key=_standard_key,
    )


def _standard_key(text: bytes) -> bytes:
    """The key behind `whsec_…`; empty, which never matches, when it is none or too short to be one."""
    try:
        key = base64.b64decode(text.strip().removeprefix(b"whsec_").rstrip(b"=") + b"==", validate=False)
    except binascii.Error:
        return b""
    return key if len(key) >= _LEAST_STANDARD_KEY else b""


def _stripe(value: bytes) -> _Claim:
    pairs = [entry.strip(b" \t").partition(b"=") for entry in value.split(b",")[: 2 * _MOST_SIGNATURES]]
    times = [text for name, _, text in pairs if name == b"t"]
    offered = [text.lower() for name, _, text in pairs if name == b"v1" and _HEX.fullmatch(text)]
    if len(times) != 1 or not offered:
        raise _Doubt("malformed header")
    return _Claim(offered=offered[:_MOST_SIGNATURES], head=times[0] + b".", time=_seconds(times[0]))


def _field(headers: Headers, name: str) -> bytes:
    """The one header of this lower-case name. Two of them could mean different things to different readers."""
    found = _fields(headers, name)
    if not found:
        raise _Doubt("missing header")
    if len(found) > 1:
        raise _Doubt("repeated header")
    return found[0].strip(b" \t")


def _fields(headers: Headers, name: str) -> list[bytes]:
    wanted = name.encode()
    pairs = headers.items() if isinstance(headers, Mapping) else headers
    return [_bytes(value) for key, value in pairs if _bytes(key).lower() == wanted]


def _bytes(text: str | bytes) -> bytes:
    return text.encode("utf-8", "replace") if isinstance(text, str) else text


def _after(prefix: bytes, value: bytes) -> bytes:
    if not value.startswith(prefix):
        raise _Doubt("malformed header")
    return value[len(prefix) :]


def _hex(value: bytes) -> bytes:
    if not _HEX.fullmatch(value):
        raise _Doubt("malformed header")
    return value.lower()


def _base64(value: bytes) -> bytes:
    if not _BASE64.fullmatch(value):
        raise _Doubt("malformed header")
    return value


def _seconds(value: bytes) -> int:
    if not _TIME.fullmatch(value):
        raise _Doubt("malformed header")
    return int(value)


class _Event(Struct, frozen=True):
    id: str | None = None
    event_id: str | None = None


class _Challenge(Struct, frozen=True):
    type: str = ""
    challenge: str = ""


_EVENT: Final = msgspec.json.Decoder(_Event)
_CHALLENGE: Final = msgspec.json.Decoder(_Challenge)
_UNREADABLE: Final = (msgspec.DecodeError, RecursionError, UnicodeDecodeError)
_KEY_HEADERS: Final[dict[PresetName, str]] = {
    "github": "x-github-delivery",
    "standard_webhooks": "webhook-id",
    "idempotency_key": "idempotency-key",
}


def dedupe_key(preset: PresetName, headers: Headers, body: bytes) -> str | None:
    """The key that the sender documents, or None when the delivery has none. Only after `verify`: it is believed."""
    header = _KEY_HEADERS.get(preset)
    if header is not None:
        found = _fields(headers, header)
        return _key(found[0].strip(b" \t")) if len(found) == 1 else None
    try:
        event = _EVENT.decode(body)
    except _UNREADABLE:
        return None
    return _key(((event.event_id if preset == "slack" else event.id) or "").encode())


def url_verification_challenge(body: bytes) -> str | None:
    """What Slack wants to hear back when an address is entered there, or None for any other delivery."""
    try:
        challenge = _CHALLENGE.decode(body)
    except _UNREADABLE:
        return None
    wanted = challenge.type == "url_verification" and 0 < len(challenge.challenge) <= 1_000
    return challenge.challenge if wanted else None


def _key(value: bytes) -> str | None:
    if not value:
        return None
    text = value.decode("latin-1")
    if len(value) <= DEDUPE_KEY_BYTES and text.isascii() and text.isprintable():
        return text
    return f"sha256:{hashlib.sha256(value).hexdigest()}"  # Long or odd, but still one key and not another.
