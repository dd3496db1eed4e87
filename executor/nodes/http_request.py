"""Calls any HTTP API, through the egress guard."""

from typing import Annotated, ClassVar, Final, Literal, TypeAlias
from urllib.parse import urlencode

import msgspec
from msgspec import Meta, Raw, Struct, field

from chassis.egress import Request
from contracts.limits import MIB, RESPONSE_BYTES
from contracts.nodes import NodeSpec, Repeat
from executor.answers import Reading, body_of, flat, headers_of, refusal, scalar, succeeded
from executor.contents import Stored, text_or_file
from executor.errors import BadConfig
from executor.forms import form
from executor.node import Context, Result, SecretField

Scalar: TypeAlias = str | int | float | bool | None
Values: TypeAlias = dict[str, Scalar | tuple[Scalar, ...]]
StatusRule: TypeAlias = Annotated[str, Meta(pattern=r"^[1-5](xx|[0-9]{2})$")]

KEY_HEADER: Final = "Idempotency-Key"
_SAFE_TO_REPEAT: Final = frozenset({"GET", "HEAD", "OPTIONS", "PUT", "DELETE"})


class HttpRequest(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    url: Annotated[str, Meta(title="URL", min_length=1, max_length=16_384)]
    method: Annotated[
        Literal["GET", "POST", "PUT", "PATCH", "DELETE", "HEAD", "OPTIONS"], Meta(title="Method")
    ] = "GET"
    query: Annotated[
        Values, Meta(title="Query", description="Added to the URL; a list gives its name several times.")
    ] = field(default_factory=dict)
    headers: Annotated[dict[str, Scalar], Meta(title="Headers")] = field(default_factory=dict)
    body_type: Annotated[
        Literal["json", "form", "raw"],
        Meta(
            title="Body type",
            description="JSON; a form (an object of fields); or a text or stored file as it is.",
        ),
    ] = "json"
    body: Annotated[Raw, Meta(title="Body", description="Left out: the request has none.")] = field(
        default_factory=Raw
    )
    content_type: Annotated[
        Annotated[str, Meta(max_length=200)] | None,
        Meta(title="Content type", description="In place of the body type's own."),
    ] = None
    auth: Annotated[
        SecretField,
        Meta(title="Credential", description="Goes only to the hosts that the secret allows."),
    ] = None
    timeout_s: Annotated[
        float, Meta(title="Timeout", description="Seconds, for everything together.", gt=0, le=3_600)
    ] = 30.0
    follow_redirects: Annotated[bool, Meta(title="Follow redirects")] = True
    response: Annotated[
        Reading,
        Meta(title="Read the answer as", description="`auto` goes by the answer's content type."),
    ] = "auto"
    max_bytes: Annotated[
        int, Meta(title="Largest answer", description="In bytes.", ge=1, le=RESPONSE_BYTES)
    ] = 10 * MIB
    success: Annotated[
        tuple[StatusRule, ...],
        Meta(title="Success", description="Statuses that are no failure, as `2xx` or `404`.", max_length=50),
    ] = ("2xx",)
    honours_key: Annotated[
        bool,
        Meta(
            title="The server honours Idempotency-Key",
            description="Then a POST or PATCH may be repeated under the same key when its outcome is unknown.",
        ),
    ] = False


class HttpRequestNode:
    """Repeats without asking what HTTP calls idempotent; any other call leaves doubt when no answer came."""

    spec: ClassVar = NodeSpec(
        type="http.request",
        title="HTTP request",
        help="Calls a URL and hands on status, headers and body of the answer.",
        icon="globe",
        category="Network",
        repeat="no",
        config=form(HttpRequest),
    )
    config: ClassVar = HttpRequest

    def repeat(self, config: HttpRequest) -> Repeat:
        if config.method in _SAFE_TO_REPEAT:
            return "yes"
        return "by-key" if config.honours_key else "no"

    async def run(self, config: HttpRequest, context: Context) -> Result:
        request = await self._request(config, context)
        async with context.effect():
            response = await context.egress.request(request)
        if not succeeded(response.status, config.success):
            raise refusal(response, context.now)
        output = {
            "status": response.status,
            "headers": headers_of(response),
            "body": body_of(response, config.response),
        }
        return Result(output=output)

    async def _request(self, config: HttpRequest, context: Context) -> Request:
        body, kind = await _body(config, context)
        headers = flat(config.headers)
        names = {name.lower() for name in headers}
        if kind and "content-type" not in names:
            headers["Content-Type"] = kind
        if KEY_HEADER.lower() not in names:
            headers[KEY_HEADER] = context.key
        return Request(
            method=config.method,
            url=_url(config),
            headers=headers,
            body=body,
            timeout_s=config.timeout_s,
            max_bytes=config.max_bytes,
            follow_redirects=config.follow_redirects,
            credential=await context.open(config.auth) if config.auth else None,
            repeatable=self.repeat(config) != "no",
        )


def _url(config: HttpRequest) -> str:
    if not config.query:
        return config.url
    # What stands in the URL stays as it is, byte for byte.
    url, mark, fragment = config.url.partition("#")
    joint = "" if url.endswith(("?", "&")) else "&" if "?" in url else "?"
    return f"{url}{joint}{urlencode(_pairs(config.query))}{mark}{fragment}"


def _pairs(values: Values) -> list[tuple[str, str]]:
    return [
        (name, scalar(item))
        for name, value in values.items()
        for item in (value if isinstance(value, tuple) else (value,))
        if item is not None
    ]


_form: Final = msgspec.json.Decoder(Values)


async def _body(config: HttpRequest, context: Context) -> tuple[bytes, str]:
    """The body's bytes and their content type."""
    written = bytes(config.body)
    if not written or config.method == "HEAD":
        return b"", ""
    if config.body_type == "json":
        return written, config.content_type or "application/json"
    if config.body_type == "form":
        try:
            pairs = _pairs(_form.decode(written))
        except msgspec.DecodeError as error:
            raise BadConfig("The body does not fit its type.", field="/body") from error
        return urlencode(pairs).encode(), config.content_type or "application/x-www-form-urlencoded"
    raw = text_or_file(config.body, "/body")
    if isinstance(raw, Stored):
        return await context.fetch(raw.blob), config.content_type or raw.blob.content_type
    return raw.encode(), config.content_type or "text/plain; charset=utf-8"


node = HttpRequestNode()
