"""Calls to object stores that speak S3: AWS, MinIO, Ceph, R2 and their like."""

import hashlib
import re
from collections.abc import Mapping
from typing import Annotated, Final, Literal
from urllib.parse import quote, urlencode

from msgspec import Meta, Struct

from chassis.egress import EgressError, Request, Response
from chassis.egress.urls import BadUrl, Target, parse_url
from chassis.secret import BasicSecret
from contracts.limits import MIB
from executor.answers import refusal, succeeded
from executor.errors import BadConfig, StepError
from executor.markup import Element, read_xml
from executor.node import Context, SecretField
from executor.signing import Signer

ERROR_BYTES: Final = 1 * MIB
_UNRESERVED: Final = "-_.~"
_CODE: Final = re.compile(r"[A-Za-z0-9._-]{1,64}")

Key = Annotated[
    str,
    Meta(
        title="Key", description="Name of the object, as `reports/2026.csv`.", min_length=1, max_length=1_024
    ),
]


class Store(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Where the objects lie."""

    endpoint: Annotated[
        str,
        Meta(
            title="Endpoint",
            description="As `https://s3.eu-central-1.amazonaws.com` or `http://minio.example.com:9000`.",
            min_length=1,
            max_length=1_000,
        ),
    ]
    bucket: Annotated[
        str, Meta(title="Bucket", min_length=1, max_length=255, pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$")
    ]
    region: Annotated[str, Meta(title="Region", min_length=1, max_length=64, pattern=r"^[A-Za-z0-9-]+$")] = (
        "us-east-1"
    )
    addressing: Annotated[
        Literal["path", "host"],
        Meta(title="Bucket stands in the", description="Path, `/bucket/key`; or host, `bucket.s3.…`."),
    ] = "path"
    auth: Annotated[
        SecretField,
        Meta(
            title="Credential",
            description="A secret of the kind `basic`: the access key as user, the secret key as password. It signs for "
            "the hosts that it allows and is never sent. None: for what everybody may do.",
        ),
    ] = None
    timeout_s: Annotated[
        float, Meta(title="Timeout", description="Seconds, for each call.", gt=0, le=3_600)
    ] = 60.0


class Call(Struct, frozen=True, kw_only=True):
    """One call to a bucket or an object in it."""

    method: Literal["GET", "PUT"]
    key: str = ""
    query: Mapping[str, str] = {}
    headers: Mapping[str, str] = {}
    body: bytes = b""
    max_bytes: int = ERROR_BYTES


class Bucket:
    """A bucket, for one attempt."""

    def __init__(self, store: Store, context: Context, signer: Signer | None) -> None:
        self._store = store
        self._context = context
        self._signer = signer

    @classmethod
    async def open(cls, store: Store, context: Context) -> "Bucket":
        """Raises `BadConfig` when the credential is none for this."""
        if store.auth is None:
            return cls(store, context, None)
        credential = await context.open(store.auth)
        if not isinstance(credential.value, BasicSecret):
            raise BadConfig("The secret is not of the kind `basic`.", field="/auth")
        credential.check(_target(store, "", {}).host)
        pair = credential.value
        return cls(store, context, Signer(key_id=pair.user, key=pair.password, region=store.region))

    async def ask(self, call: Call) -> Response:
        """The answer, when it is a success. Raises `StepError` and `EgressError`."""
        target = _target(self._store, call.key, call.query)
        digest = hashlib.sha256(call.body).hexdigest()
        headers = {**call.headers, "x-amz-content-sha256": digest}
        if self._signer is not None:
            headers = self._signer.sign(call.method, target, headers, self._context.now, digest=digest)
        request = Request(
            method=call.method,
            url=target.url,
            headers=headers,
            body=call.body,
            timeout_s=self._store.timeout_s,
            max_bytes=max(call.max_bytes, ERROR_BYTES),
            # A signature holds for one host; another region is told as an error.
            follow_redirects=False,
            repeatable=True,
        )
        response = await self._context.egress.request(request)
        if not succeeded(response.status, ("2xx",)):
            raise refusal(response, self._context.now, detail=await _code(response))
        if len(response.body) > call.max_bytes:
            raise EgressError("too_large", touched=True, detail=target.host)
        return response


def etag(response: Response) -> str | None:
    said = response.header("etag")
    return said and said.strip('"')


def _target(store: Store, key: str, query: Mapping[str, str]) -> Target:
    """Raises `BadConfig`."""
    if {".", ".."} & set(key.split("/")):
        raise BadConfig("A key with `.` or `..` between slashes cannot be asked for.", field="/key")
    try:
        base = parse_url(store.endpoint)
        if base.path != b"/":
            raise BadConfig("The endpoint has a path.", field="/endpoint")
        scheme, authority = base.scheme, base.authority
        where = (
            f"{scheme}://{store.bucket}.{authority}/"
            if store.addressing == "host"
            else f"{scheme}://{authority}/"
        )
        path = key if store.addressing == "host" else f"{store.bucket}/{key}" if key else store.bucket
        # Encoded in full, as the signature wants it; nothing behind this changes a byte.
        asked = f"?{urlencode(sorted(query.items()), quote_via=quote, safe=_UNRESERVED)}" if query else ""
        return parse_url(f"{where}{quote(path, safe=_UNRESERVED + '/')}{asked}")
    except BadUrl as error:
        raise BadConfig(str(error), field="/endpoint") from None


async def _code(response: Response) -> str:
    """What the other side calls the error. Nothing else of its answer: that has parts of what was signed."""
    try:
        root = await read_xml(response.body, naming="local")
    except StepError:
        return ""
    found = child_text(root, "Code") or ""
    return found if _CODE.fullmatch(found) else ""


def child_text(element: Element, name: str) -> str | None:
    return next((child.text for child in element.children if child.name == name), None)
