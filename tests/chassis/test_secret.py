"""What a secret never does, and what a log line never says."""

import copy
import json
import pickle

import msgspec
import pytest
import structlog
from hypothesis import given
from hypothesis import strategies as st

from chassis.secret import (
    BasicSecret,
    BearerSecret,
    HeaderSecret,
    HmacSecret,
    QuerySecret,
    Secret,
    SecretValue,
    SmtpSecret,
    TextSecret,
    decode_secret,
    encode_secret,
    host_allowed,
    host_pattern,
    key_material,
    redact,
    redact_headers,
    redact_url,
)

CANARY = "CANARY-4f1e"
EVERY_KIND: list[tuple[SecretValue, str, bytes]] = [
    (HeaderSecret(name="X-Api-Key", value=Secret(CANARY)), "header", CANARY.encode()),
    (BasicSecret(user="ann", password=Secret(CANARY)), "basic", b"ann:" + CANARY.encode()),
    (BearerSecret(token=Secret(CANARY)), "bearer", CANARY.encode()),
    (QuerySecret(name="key", value=Secret(CANARY)), "api_key_query", CANARY.encode()),
    (HmacSecret(key=Secret(CANARY)), "hmac", CANARY.encode()),
    (SmtpSecret(user="ann", password=Secret(CANARY)), "smtp", b"ann:" + CANARY.encode()),
    (TextSecret(text=Secret(CANARY)), "text", CANARY.encode()),
]


def test_a_secret_does_not_show_itself_in_any_text() -> None:
    secret = Secret(CANARY)
    holder = BearerSecret(token=secret)
    shown = [
        repr(secret),
        str(secret),
        f"{secret}",
        f"{secret!r:>40}",
        "%s" % secret,  # noqa: UP031  # The old way must not show it either.
        repr([secret]),
        repr(holder),
        str(holder),
        repr(ValueError(secret)),
    ]
    assert not [text for text in shown if CANARY in text]
    assert secret.reveal() == CANARY.encode()
    assert Secret(b"\xff\x00").reveal() == b"\xff\x00"


def test_a_secret_is_not_encoded_pickled_or_copied() -> None:
    secret = Secret(CANARY)
    for attempt in (
        lambda: msgspec.json.encode(secret),
        lambda: msgspec.msgpack.encode({"a": secret}),
        lambda: msgspec.to_builtins(BearerSecret(token=secret)),
        lambda: json.dumps(secret),
        lambda: pickle.dumps(secret),
        lambda: copy.deepcopy(secret),
        lambda: copy.copy(secret),
    ):
        with pytest.raises(TypeError):
            attempt()


def test_equal_secrets_do_not_say_that_they_are() -> None:
    assert Secret(CANARY) != Secret(CANARY)
    assert not hasattr(Secret(CANARY), "__dict__")


@pytest.mark.parametrize(("value", "kind", "material"), EVERY_KIND)
def test_every_kind_survives_encoding_and_keeps_its_tag(
    value: SecretValue, kind: str, material: bytes
) -> None:
    plaintext = encode_secret(value)
    assert json.loads(plaintext.reveal())["kind"] == kind
    decoded = decode_secret(plaintext)
    assert type(decoded) is type(value)
    assert key_material(decoded).reveal() == material
    assert CANARY not in repr(decoded)


@pytest.mark.parametrize(
    "plaintext", [b"", b"{}", b'{"kind":"text"}', b'{"kind":"text","text":1}', b'{"kind":"?"}', b"\xff"]
)
def test_what_is_no_secret_is_not_decoded(plaintext: bytes) -> None:
    with pytest.raises((msgspec.DecodeError, TypeError)):
        decode_secret(Secret(plaintext))


@pytest.mark.parametrize(
    ("host", "allowed"),
    [
        ("api.example.com", True),
        ("eu.api.example.org", True),
        ("a.b.example.org", True),
        ("example.org", False),
        ("evilexample.org", False),
        ("example.org.evil.net", False),
        ("api.example.com.evil.net", False),
        ("xapi.example.com", False),
        ("10.1.2.3", True),
        ("10.1.2.4", False),
        ("::1", False),
    ],
)
def test_a_host_is_allowed_by_its_whole_name_or_a_true_suffix(host: str, allowed: bool) -> None:
    patterns = [host_pattern(text) for text in ("API.example.com.", "*.Example.org", "10.1.2.3")]
    assert host_allowed(host, patterns) is allowed


def test_no_pattern_allows_no_host() -> None:
    assert not host_allowed("example.com", [])


@pytest.mark.parametrize(
    "text", ["", "*", "*.", "*.*.com", "a*.com", "https://a.com", "a.com/x", "a b", "a..b", "."]
)
def test_a_pattern_wider_than_one_domain_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="host"):
        host_pattern(text)


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("https://x.io/a?b=1&token=abc&c=2", "https://x.io/a?b=1&token=%5Bredacted%5D&c=2"),
        ("https://x.io/?api_key=abc#k", "https://x.io/?api_key=%5Bredacted%5D#k"),
        ("https://x.io/?X-Amz-Signature=abc", "https://x.io/?X-Amz-Signature=%5Bredacted%5D"),
        ("https://x.io/?%74oken=abc", "https://x.io/?%74oken=%5Bredacted%5D"),
        ("https://ann:abc@x.io/p", "https://[redacted]@x.io/p"),
        ("https://x.io/monkey?keyboard=qwerty", "https://x.io/monkey?keyboard=qwerty"),
        ("got 401 from https://x.io/?sig=abc, twice", "got 401 from https://x.io/?sig=%5Bredacted%5D twice"),
        ("https://x.io/", "https://x.io/"),
    ],
)
def test_secrets_in_a_url_are_blanked_out(url: str, shown: str) -> None:
    assert redact_url(url) == shown


def test_headers_that_carry_secrets_are_blanked_out_in_any_case() -> None:
    headers = [("Authorization", "x"), ("COOKIE", "x"), ("X-Api-Key", "x"), ("Accept", "x")]
    assert [value for _, value in redact_headers(headers)] == ["[redacted]"] * 3 + ["x"]


def test_no_secret_goes_past_the_log_processor() -> None:
    lines: list[str] = []
    logger = structlog.wrap_logger(
        structlog.testing.CapturingLogger(),
        processors=[redact, structlog.processors.JSONRenderer()],
        wrapper_class=structlog.BoundLogger,  # Whatever level other tests have left behind.
    )
    logger.info(
        "step.failed",
        token=Secret(CANARY),
        authorization=CANARY,
        deep={"a": [{"set-cookie": CANARY}, (Secret(CANARY),), {"url": f"https://h/?key={CANARY}"}]},
        headers=[("X-API-Key", CANARY), ("accept", "json")],
        holder=repr(BearerSecret(token=Secret(CANARY))),
        count=3,
    )
    lines = [str(call) for call in logger._logger.calls]
    assert CANARY not in "".join(lines)
    assert '"accept", "json"' in lines[0]
    assert '"count": 3' in lines[0]


@given(
    st.recursive(
        st.just("leaf") | st.integers() | st.none(),
        lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
        max_leaves=30,
    )
)
def test_the_log_processor_takes_anything(value: object) -> None:
    event = redact(None, "info", {"event": "x", "value": value, "secret": [value, Secret(CANARY)]})
    assert CANARY not in json.dumps(event)


def test_values_deeper_than_any_honest_line_are_not_logged() -> None:
    value: object = Secret(CANARY)
    for _ in range(2_000):
        value = [value]
    assert "[redacted]" in repr(redact(None, "info", {"value": value}))
