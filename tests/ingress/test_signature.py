"""What ingress believes about where a delivery comes from, and what it never does."""

import base64
import hashlib
import hmac
import json
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from standardwebhooks.webhooks import Webhook

from chassis.secret import Secret
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
from ingress.signature import Refused, Verified, dedupe_key, url_verification_challenge, verify

NOW = 1_763_700_000.0
BODY = b'{"a":1}'
TEXT_KEY = Secret("a secret of the owner's choosing")
STANDARD_KEY = Secret("whsec_" + base64.b64encode(b"k" * 32).decode())


def hexed(signed: bytes, key: Secret = TEXT_KEY, algorithm: str = "sha256") -> str:
    return hmac.new(key.reveal(), signed, algorithm).hexdigest()


def github(body: bytes = BODY, key: Secret = TEXT_KEY, time: float = NOW) -> dict[str, str]:
    return {"X-Hub-Signature-256": "sha256=" + hexed(body, key), "X-GitHub-Event": "push"}


def slack(body: bytes = BODY, key: Secret = TEXT_KEY, time: float = NOW) -> dict[str, str]:
    at = str(int(time))
    signed = b"v0:" + at.encode() + b":" + body
    return {"X-Slack-Request-Timestamp": at, "X-Slack-Signature": "v0=" + hexed(signed, key)}


def stripe(body: bytes = BODY, key: Secret = TEXT_KEY, time: float = NOW) -> dict[str, str]:
    at = str(int(time))
    return {"Stripe-Signature": f"t={at},v1={hexed(at.encode() + b'.' + body, key)},v0=00"}


def standard(body: bytes = BODY, key: Secret = STANDARD_KEY, time: float = NOW) -> dict[str, str]:
    at, raw = str(int(time)), base64.b64decode(key.reveal().removeprefix(b"whsec_"))
    mac = hmac.new(raw, f"msg_1.{at}.".encode() + body, hashlib.sha256).digest()
    return {
        "webhook-id": "msg_1",
        "webhook-timestamp": at,
        "webhook-signature": "v1," + base64.b64encode(mac).decode(),
    }


def generic(body: bytes = BODY, key: Secret = TEXT_KEY, time: float = NOW) -> dict[str, str]:
    at = str(int(time))
    return {"X-Time": at, "X-Sum": "v1=" + hexed(at.encode() + b"." + body, key)}


def basic(body: bytes = BODY, key: Secret = TEXT_KEY, time: float = NOW) -> dict[str, str]:
    return {"Authorization": "Basic " + base64.b64encode(key.reveal()).decode()}


def token(body: bytes = BODY, key: Secret = TEXT_KEY, time: float = NOW) -> dict[str, str]:
    return {"X-Token": key.reveal_text()}


Sign = Callable[..., dict[str, str]]
PAIR = Secret("ann:pass:word")
GENERIC = Hmac(header="X-Sum", secret="s", prefix="v1=", timestamp_header="X-Time")
SIGNED: list[tuple[Authentication, Sign, Secret]] = [
    (Github(secret="s"), github, TEXT_KEY),
    (Slack(secret="s"), slack, TEXT_KEY),
    (Stripe(secret="s"), stripe, TEXT_KEY),
    (StandardWebhooks(secret="s"), standard, STANDARD_KEY),
    (GENERIC, generic, TEXT_KEY),
]
SHOWN: list[tuple[Authentication, Sign, Secret]] = [
    (Basic(secret="s"), basic, PAIR),
    (HeaderToken(header="X-Token", secret="s"), token, TEXT_KEY),
]
TIMED = SIGNED[1:]
every_scheme = pytest.mark.parametrize(("scheme", "sign", "key"), SIGNED + SHOWN)
signing_schemes = pytest.mark.parametrize(("scheme", "sign", "key"), SIGNED)
timed_schemes = pytest.mark.parametrize(("scheme", "sign", "key"), TIMED)


def other(key: Secret) -> Secret:
    return (
        Secret("whsec_" + base64.b64encode(b"o" * 32).decode())
        if key is STANDARD_KEY
        else Secret("other:one")
    )


@every_scheme
def test_a_true_delivery_is_verified(scheme: Authentication, sign: Sign, key: Secret) -> None:
    assert isinstance(verify(scheme, sign(key=key), BODY, NOW, [key]), Verified)
    lower = {name.lower().encode(): value.encode() for name, value in sign(key=key).items()}
    assert isinstance(verify(scheme, lower, BODY, NOW, [key]), Verified)
    assert isinstance(verify(scheme, list(lower.items()), BODY, NOW, [key]), Verified)


def test_without_authentication_every_delivery_is_verified() -> None:
    assert verify(NoAuthentication(), {}, b"", NOW, []) == Verified()


# --- H1: wrong, missing, truncated, other key, other scheme, a changed byte -------------------


@every_scheme
def test_a_delivery_of_another_key_is_refused(scheme: Authentication, sign: Sign, key: Secret) -> None:
    assert verify(scheme, sign(key=other(key)), BODY, NOW, [key]) == Refused("no match")


@every_scheme
def test_without_a_key_nothing_is_believed(scheme: Authentication, sign: Sign, key: Secret) -> None:
    assert verify(scheme, sign(key=key), BODY, NOW, []) == Refused("no key")
    assert isinstance(verify(scheme, sign(key=key), BODY, NOW, [Secret("")]), Refused)


@every_scheme
def test_a_missing_or_repeated_or_empty_header_is_refused(
    scheme: Authentication, sign: Sign, key: Secret
) -> None:
    headers = {k: v for k, v in sign(key=key).items() if k != "X-GitHub-Event"}
    for name, value in headers.items():
        without = {k: v for k, v in headers.items() if k != name}
        assert verify(scheme, without, BODY, NOW, [key]) == Refused("missing header")
        assert isinstance(verify(scheme, {**headers, name: ""}, BODY, NOW, [key]), Refused)
        twice = {**headers, name.upper(): value, name.lower(): value}
        assert verify(scheme, twice, BODY, NOW, [key]) == Refused("repeated header")


@signing_schemes
def test_one_changed_bit_of_the_body_is_refused(scheme: Authentication, sign: Sign, key: Secret) -> None:
    headers = sign(key=key)
    for place in range(len(BODY)):
        changed = BODY[:place] + bytes([BODY[place] ^ 1]) + BODY[place + 1 :]
        assert verify(scheme, headers, changed, NOW, [key]) == Refused("no match")
    for changed in (b"", BODY + b" ", BODY[1:]):
        assert verify(scheme, headers, changed, NOW, [key]) == Refused("no match")


@every_scheme
def test_a_truncated_or_lengthened_proof_is_refused(scheme: Authentication, sign: Sign, key: Secret) -> None:
    headers = sign(key=key)
    name = next(n for n in headers if "sig" in n.lower() or n in ("X-Sum", "Authorization", "X-Token"))
    value = headers[name].removesuffix(",v0=00")
    for wrong in (value[:-1], value[:-4], value + "A", value[: len(value) // 2], "é" + value):
        assert isinstance(verify(scheme, {**headers, name: wrong}, BODY, NOW, [key]), Refused), wrong


@pytest.mark.parametrize(("scheme", "sign", "key"), SIGNED + SHOWN)
def test_the_proof_of_one_scheme_is_none_in_another(scheme: Authentication, sign: Sign, key: Secret) -> None:
    for other_scheme, _, _ in SIGNED + SHOWN:
        if other_scheme is not scheme:
            assert isinstance(verify(other_scheme, sign(key=key), BODY, NOW, [key]), Refused)


def test_an_sha1_or_unprefixed_github_signature_is_refused() -> None:
    for value in ("sha1=" + hexed(BODY, algorithm="sha1"), hexed(BODY), "SHA256=" + hexed(BODY)):
        headers = {"X-Hub-Signature-256": value}
        assert verify(Github(secret="s"), headers, BODY, NOW, [TEXT_KEY]) == Refused("malformed header")


def test_githubs_own_documented_example_is_verified() -> None:
    headers = {
        "X-Hub-Signature-256": "sha256=757107ea0eb2509fc211221cce984b8a37570b6d7586c22c46f4379c8b043e17"
    }
    key = Secret("It's a Secret to Everybody")
    assert verify(Github(secret="s"), headers, b"Hello, World!", NOW, [key]) == Verified()


def test_slacks_own_documented_example_is_verified() -> None:
    body = (
        b"token=xyzz0WbapA4vBCDEFasx0q6G&team_id=T1DC2JH3J&team_domain=testteamnow&channel_id=G8PSS9T3V"
        b"&channel_name=foobar&user_id=U2CERLKJA&user_name=roadrunner&command=%2Fwebhook-collect&text="
        b"&response_url=https%3A%2F%2Fhooks.slack.com%2Fcommands%2FT1DC2JH3J%2F397700885554%2F96rGlfmibIGlgcZRskXaIFfN"
        b"&trigger_id=398738663015.47445629121.803a0bc887a14d10d2c447fce8b6703c"
    )
    headers = {
        "X-Slack-Request-Timestamp": "1531420618",
        "X-Slack-Signature": "v0=a2114d57b48eac39b9ad189dd8316235a7b4a8d21a10bd27519666489c69b503",
    }
    key = Secret("8f742231b10e8888abcd99yyyzzz85a5")
    assert verify(Slack(secret="s"), headers, body, 1531420618.0, [key]) == Verified(0, 1531420618)


@pytest.mark.parametrize("algorithm", ["sha256", "sha1", "sha512"])
@pytest.mark.parametrize("encoding", ["hex", "base64"])
def test_a_generic_signature_has_the_algorithm_and_encoding_of_its_settings(
    algorithm: Any, encoding: Any
) -> None:
    scheme = Hmac(header="X-Sum", secret="s", algorithm=algorithm, encoding=encoding)
    mac = hmac.new(TEXT_KEY.reveal(), BODY, algorithm).digest()
    value = mac.hex() if encoding == "hex" else base64.b64encode(mac).decode()
    assert isinstance(verify(scheme, {"x-sum": value}, BODY, NOW, [TEXT_KEY]), Verified)
    if encoding == "hex":
        assert isinstance(verify(scheme, {"x-sum": value.upper()}, BODY, NOW, [TEXT_KEY]), Verified)
    for wrong in ("sha1", "sha256", "sha512"):
        if wrong != algorithm:
            other_scheme = Hmac(header="X-Sum", secret="s", algorithm=wrong, encoding=encoding)
            assert verify(other_scheme, {"x-sum": value}, BODY, NOW, [TEXT_KEY]) == Refused("no match")


def test_a_token_in_the_authorization_header_may_stand_after_bearer() -> None:
    scheme = HeaderToken(header="Authorization", secret="s")
    for value in (b"Bearer tok-1", b"bearer tok-1", b"tok-1"):
        assert isinstance(verify(scheme, [(b"authorization", value)], b"", NOW, [Secret("tok-1")]), Verified)
    for value in (b"Bearer tok-2", b"Basic tok-1", b"Bearer", b"Bearer tok-1 x"):
        assert isinstance(verify(scheme, [(b"authorization", value)], b"", NOW, [Secret("tok-1")]), Refused)


@pytest.mark.parametrize(
    "value",
    [
        "Basic",
        "Basic ",
        "Basic !!!",
        "Basic YW5u",
        "Bearer YW5uOnBhc3M6d29yZA==",
        "YW5uOnBhc3M6d29yZA==",
        "Basic é",
    ],
)
def test_a_malformed_basic_header_is_refused(value: str) -> None:
    assert verify(Basic(secret="s"), {"Authorization": value}, BODY, NOW, [PAIR]) == Refused(
        "malformed header"
    )


# --- H2: replay ------------------------------------------------------------------------------


@timed_schemes
@pytest.mark.parametrize(
    ("off", "verified"),
    [(0, True), (299, True), (-299, True), (300, True), (301, False), (-301, False), (7 * 86400, False)],
)
def test_a_delivery_is_believed_for_five_minutes(
    scheme: Authentication, sign: Sign, key: Secret, off: int, verified: bool
) -> None:
    told = verify(scheme, sign(key=key, time=NOW), BODY, NOW + off, [key])
    assert told == (Verified(0, int(NOW)) if verified else Refused("time is off"))


@timed_schemes
def test_a_changed_time_breaks_the_signature(scheme: Authentication, sign: Sign, key: Secret) -> None:
    old = int(NOW) - 86400
    headers = {
        name: value.replace(str(old), str(int(NOW)), 1) for name, value in sign(key=key, time=old).items()
    }
    assert verify(scheme, headers, BODY, NOW, [key]) == Refused("no match")


# --- H3: boundaries and odd timestamps ----------------------------------------------------------

ODD_TIMES = [
    "1_763_700_000",
    "1763700000.9",
    " 1763700000 0",
    "+1763700000",
    "-1763700000",
    "01763700000",
    "1763700000\n",
    "1763700000\x00",
    "nan",
    "inf",
    "1e9",
    "1e400",
    "0x6920",
    "",
    "٠١٢٣٤٥٦٧٨٩",
    "\uff11\uff17\uff16\uff13\uff17",
    "9" * 400,
    "0",
    "²",
]


@timed_schemes
@pytest.mark.parametrize("time", ODD_TIMES)
def test_a_timestamp_is_digits_and_nothing_else(
    scheme: Authentication, sign: Sign, key: Secret, time: str
) -> None:
    raw = key.reveal()
    raw = base64.b64decode(raw.removeprefix(b"whsec_")) if key is STANDARD_KEY else raw
    odd = time.encode()

    def mac(signed: bytes) -> Any:
        return hmac.new(raw, signed, hashlib.sha256)

    signed_with_it: dict[str, dict[bytes, bytes]] = {
        "slack": {
            b"x-slack-request-timestamp": odd,
            b"x-slack-signature": b"v0=" + mac(b"v0:" + odd + b":" + BODY).hexdigest().encode(),
        },
        "stripe": {b"stripe-signature": b"t=" + odd + b",v1=" + mac(odd + b"." + BODY).hexdigest().encode()},
        "standard": {
            b"webhook-id": b"m",
            b"webhook-timestamp": odd,
            b"webhook-signature": b"v1," + base64.b64encode(mac(b"m." + odd + b"." + BODY).digest()),
        },
        "generic": {b"x-time": odd, b"x-sum": b"v1=" + mac(odd + b"." + BODY).hexdigest().encode()},
    }
    told = verify(scheme, signed_with_it[sign.__name__], BODY, NOW, [key])
    assert told in (Refused("malformed header"), Refused("time is off"))


def test_the_boundary_between_id_and_body_cannot_be_shifted() -> None:
    """The body of a true delivery begins like a time; cut elsewhere, the same bytes would say something else."""
    at = str(int(NOW))
    shifted_body = b'{"admin":true}'
    headers = standard(body=at.encode() + b"." + shifted_body)
    assert isinstance(
        verify(StandardWebhooks(secret="s"), headers, at.encode() + b"." + shifted_body, NOW, [STANDARD_KEY]),
        Verified,
    )
    shifted = {**headers, "webhook-id": f"msg_1.{at}"}
    assert verify(StandardWebhooks(secret="s"), shifted, shifted_body, NOW, [STANDARD_KEY]) == Refused(
        "malformed header"
    )
    library = Webhook(STANDARD_KEY.reveal_text())
    signed = library.sign(f"msg_1.{at}", datetime.fromtimestamp(NOW, UTC), shifted_body.decode())
    assert signed == headers["webhook-signature"], "the library would believe it"


@pytest.mark.parametrize("identity", ["", "a.b", ".", "a b", "a\n", "é", "a\x00", "x" * 257, "\u200b"])
def test_an_id_that_could_be_read_in_two_ways_is_refused(identity: str) -> None:
    at = str(int(NOW))
    mac = hmac.new(b"k" * 32, identity.encode() + f".{at}.".encode() + BODY, hashlib.sha256).digest()
    headers = {
        "webhook-id": identity,
        "webhook-timestamp": at,
        "webhook-signature": "v1," + base64.b64encode(mac).decode(),
    }
    assert verify(StandardWebhooks(secret="s"), headers, BODY, NOW, [STANDARD_KEY]) == Refused(
        "malformed header"
    )


@pytest.mark.parametrize(
    "value", ["v1", "v1,a,b", "v1,a", "v1,é", "v1a,xx", ",", "v1,", "v2,abc", " ", "v1," + "A" * 5_000]
)
def test_a_malformed_list_of_signatures_is_refused(value: str) -> None:
    headers = {**standard(), "webhook-signature": value}
    assert verify(StandardWebhooks(secret="s"), headers, BODY, NOW, [STANDARD_KEY]) == Refused(
        "malformed header"
    )


def test_one_true_signature_in_a_list_is_enough() -> None:
    true = standard()["webhook-signature"]
    wrong = "v1," + base64.b64encode(b"x" * 32).decode()
    headers = {**standard(), "webhook-signature": f"v1a,xx  {wrong} {true}"}
    assert isinstance(verify(StandardWebhooks(secret="s"), headers, BODY, NOW, [STANDARD_KEY]), Verified)
    beyond = {**standard(), "webhook-signature": " ".join([wrong] * 40 + [true])}
    assert isinstance(verify(StandardWebhooks(secret="s"), beyond, BODY, NOW, [STANDARD_KEY]), Refused)


@pytest.mark.parametrize("key", ["whsec_", "whsec_YQ==", "YQ==", "whsec_!!!!", "whsec_" + "A" * 5, ""])
def test_a_standard_webhooks_key_that_is_too_short_is_no_key(key: str) -> None:
    raw = b"a" if "YQ" in key else b""
    at = str(int(NOW))
    mac = hmac.new(raw, f"msg_1.{at}.".encode() + BODY, hashlib.sha256).digest()
    headers = {**standard(), "webhook-signature": "v1," + base64.b64encode(mac).decode()}
    assert verify(StandardWebhooks(secret="s"), headers, BODY, NOW, [Secret(key)]) == Refused("no match")


@pytest.mark.parametrize(
    "value",
    [
        "t=1763700000",
        "v1=00",
        "t=1763700000,t=1763700000,v1=" + "0" * 64,
        "t=,v1=" + "0" * 64,
        ",,,",
        "t=1763700000,v1=zz",
    ],
)
def test_a_malformed_stripe_header_is_refused(value: str) -> None:
    assert verify(Stripe(secret="s"), {"Stripe-Signature": value}, BODY, NOW, [TEXT_KEY]) == Refused(
        "malformed header"
    )


# --- H5: two keys during a rotation -------------------------------------------------------------


@every_scheme
def test_during_a_rotation_both_keys_are_believed(scheme: Authentication, sign: Sign, key: Secret) -> None:
    new = other(key)
    at = {"time": int(NOW)} if (scheme, sign, key) in TIMED else {"time": None}
    assert verify(scheme, sign(key=new), BODY, NOW, [new, key]) == Verified(0, at["time"])
    assert verify(scheme, sign(key=key), BODY, NOW, [new, key]) == Verified(1, at["time"])
    assert verify(scheme, sign(key=key), BODY, NOW, [new]) == Refused("no match")


# --- The library as oracle ----------------------------------------------------------------------


@given(
    st.from_regex(r"[A-Za-z0-9_-]{1,40}", fullmatch=True),
    st.text(st.characters(codec="utf-8"), max_size=200),
    st.integers(0, 4_000_000_000).filter(bool),
    st.binary(min_size=24, max_size=64),
)
def test_what_the_standard_library_signs_is_verified(identity: str, body: str, time: int, key: bytes) -> None:
    secret = "whsec_" + base64.b64encode(key).decode()
    headers = {
        "webhook-id": identity,
        "webhook-timestamp": str(time),
        "webhook-signature": Webhook(secret).sign(identity, datetime.fromtimestamp(time, UTC), body),
    }
    told = verify(StandardWebhooks(secret="s"), headers, body.encode(), float(time), [Secret(secret)])
    assert told == Verified(0, time)


# --- Never raises -------------------------------------------------------------------------------

NAMES = ["webhook-id", "webhook-timestamp", "webhook-signature", "stripe-signature", "x-slack-signature",
         "x-slack-request-timestamp", "x-hub-signature-256", "authorization", "x-token", "x-sum", "x-time"]  # fmt: skip
VALUES = st.text() | st.sampled_from(
    ["v1,", "t=1,v1=", "v0=", "sha256=", "Basic ", "1763700000", "\ud800", "v1=" + "0" * 64]
)


@given(
    st.sampled_from([scheme for scheme, _, _ in SIGNED + SHOWN]),
    st.dictionaries(st.sampled_from(NAMES) | st.text(), VALUES, max_size=12),
    st.binary(),
    st.floats(),
    st.lists(st.binary(max_size=40), max_size=3),
)
@example(Github(secret="s"), {"x-hub-signature-256": "\ud800"}, b"", NOW, [b"k"])
@example(Stripe(secret="s"), {"stripe-signature": "t=1763700000,v1=" + "0" * 64}, b"", float("nan"), [b"k"])
def test_nothing_that_a_stranger_sends_raises_or_is_believed(
    scheme: Authentication, headers: dict[str, str], body: bytes, now: float, keys: list[bytes]
) -> None:
    assert isinstance(verify(scheme, headers, body, now, [Secret(key) for key in keys]), Refused)


@given(
    st.lists(st.tuples(st.sampled_from([n.encode() for n in NAMES]), st.binary()), max_size=12), st.binary()
)
def test_no_raw_header_raises(headers: list[tuple[bytes, bytes]], body: bytes) -> None:
    for scheme, _, key in SIGNED + SHOWN:
        assert isinstance(verify(scheme, headers, body, NOW, [key]), Refused)


# --- Keys for dedupe, and Slack's question -------------------------------------------------------

UUID = "72d3162e-cc78-11e3-81ab-4c9367dc0958"


def test_each_preset_reads_the_key_that_its_sender_documents() -> None:
    assert dedupe_key("github", {"X-GitHub-Delivery": UUID}, b"") == UUID
    assert dedupe_key("standard_webhooks", [(b"webhook-id", b"msg_1")], b"") == "msg_1"
    assert dedupe_key("idempotency_key", {"Idempotency-Key": " k "}, b"") == "k"
    assert dedupe_key("stripe", {}, b'{"id":"evt_1","event_id":"x"}') == "evt_1"
    assert dedupe_key("slack", {}, b'{"id":"x","event_id":"Ev1"}') == "Ev1"


def test_a_delivery_without_its_key_has_none() -> None:
    assert dedupe_key("github", {}, b"") is None
    assert dedupe_key("github", {"X-GitHub-Delivery": ""}, b"") is None
    assert dedupe_key("github", [(b"x-github-delivery", b"a"), (b"X-GitHub-Delivery", b"b")], b"") is None
    for body in (
        b"",
        b"[]",
        b"{",
        b"\xff",
        b'{"id":1}',
        b'{"id":null}',
        b'{"id":"\\ud800"}',
        b'{"x":' + b"[" * 100_000,
    ):
        assert dedupe_key("stripe", {}, body) is None


def test_a_long_or_odd_key_is_still_one_key() -> None:
    long = dedupe_key("idempotency_key", {"idempotency-key": "x" * 513}, b"")
    odd = dedupe_key("stripe", {}, b'{"id":"a\\u0000b"}')
    assert long
    assert odd
    assert long.startswith("sha256:")
    assert odd.startswith("sha256:")
    assert dedupe_key("idempotency_key", {"idempotency-key": "x" * 512}, b"") == "x" * 512
    assert len({long, odd, dedupe_key("stripe", {}, b'{"id":"a\\u0000c"}')}) == 3


@given(st.sampled_from(["github", "slack", "stripe", "standard_webhooks", "idempotency_key"]), st.binary())
def test_no_body_or_header_makes_the_dedupe_key_raise(preset: Any, data: bytes) -> None:
    for names in ([], [b"x-github-delivery", b"webhook-id", b"idempotency-key"]):
        key = dedupe_key(preset, [(name, data) for name in names], data)
        assert key is None or (key.isascii() and key.isprintable() and 0 < len(key) <= 512)


def test_slacks_question_is_answered_and_nothing_else() -> None:
    ask = {"type": "url_verification", "challenge": "3eZbrw1aB", "token": "x"}
    assert url_verification_challenge(json.dumps(ask).encode()) == "3eZbrw1aB"
    for body in (b"", b"{}", b'{"type":"event_callback","challenge":"x"}', b'{"type":"url_verification"}', b"\xff", b"[" * 100_000,
                 json.dumps({**ask, "challenge": "x" * 1_001}).encode(), b'{"type":"url_verification","challenge":1}'):  # fmt: skip
        assert url_verification_challenge(body) is None
