"""Signatures are those that AWS publishes for its own examples."""

import hashlib
from datetime import UTC, datetime

import pytest

from chassis.egress.urls import parse_url
from chassis.secret import Secret
from executor.signing import Signer

EMPTY = hashlib.sha256(b"").hexdigest()
S3 = Signer(
    key_id="AKIAIOSFODNN7EXAMPLE",
    key=Secret("wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY"),
    region="us-east-1",
)
SUITE = Signer(
    key_id="AKIDEXAMPLE",
    key=Secret("wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY"),
    region="us-east-1",
    service="service",
)


def signature(signer: Signer, method: str, url: str, at: datetime, digest: str, **headers: str) -> str:
    given = {name.replace("_", "-"): value for name, value in headers.items()}
    signed = signer.sign(method, parse_url(url), given, at, digest=digest)
    return signed["authorization"].rpartition("=")[2]


@pytest.mark.parametrize(
    ("method", "path", "body", "headers", "told"),
    [
        (
            "GET",
            "/test.txt",
            b"",
            {"range": "bytes=0-9"},
            "f0e8bdb87c964420e857bd35b5d6ed310bd44f0170aba48dd91039c6036bdb41",
        ),
        (
            "PUT",
            "/test%24file.text",
            b"Welcome to Amazon S3.",
            {"date": "Fri, 24 May 2013 00:00:00 GMT", "x-amz-storage-class": "REDUCED_REDUNDANCY"},
            "98ad721746da40c64f1a55b78f14c238d841ea1380cd77a1b5971af0ece108bd",
        ),
        ("GET", "/?lifecycle", b"", {}, "fea454ca298b7da1c68078a5d1bdbfbbe0d65c699e0f91ac7a200a0136783543"),
        (
            "GET",
            "/?prefix=J&max-keys=2",
            b"",
            {},
            "34b48302e7b5fa45bde8084f4b7868a86f0a534bc59db6670ed5711ef69dc6f7",
        ),
    ],
    ids=["get", "put", "lifecycle", "list"],
)
def test_the_examples_of_the_s3_manual_come_out(
    method: str, path: str, body: bytes, headers: dict[str, str], told: str
) -> None:
    digest = hashlib.sha256(body).hexdigest()
    url = f"https://examplebucket.s3.amazonaws.com{path}"
    at = datetime(2013, 5, 24, tzinfo=UTC)
    given = {name.replace("-", "_"): value for name, value in headers.items()}
    assert signature(S3, method, url, at, digest, x_amz_content_sha256=digest, **given) == told


@pytest.mark.parametrize(
    ("method", "path", "told"),
    [
        ("GET", "/", "5fa00fa31553b73ebf1942676e86291e8372ff2a2260956d9b8aae1d763fbf31"),
        ("POST", "/", "5da7c1a2acd57cee7505fc6676e4e544621c30862966e37dddb68e92efbe5d6b"),
        ("GET", "/?Param2=value2&Param1=value1", "b97d918cfa904a5beff61c982a1b6f458b799221646efd99d3219ec94cdf2500"),
    ],
    ids=["get-vanilla", "post-vanilla", "get-vanilla-query-order-key-case"],
)  # fmt: skip
def test_the_test_suite_of_version_4_comes_out(method: str, path: str, told: str) -> None:
    at = datetime(2015, 8, 30, 12, 36, tzinfo=UTC)
    assert signature(SUITE, method, f"https://example.amazonaws.com{path}", at, EMPTY) == told


def test_the_key_is_not_in_what_is_sent() -> None:
    signed = S3.sign(
        "GET", parse_url("https://a.example/"), {}, datetime(2026, 1, 1, tzinfo=UTC), digest=EMPTY
    )
    assert "wJalr" not in str(signed)
    assert "wJalr" not in repr(S3)
