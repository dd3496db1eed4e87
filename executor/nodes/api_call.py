"""Calls an operation of an imported API: the request's template comes with the plan, the values from the author."""

from collections.abc import Mapping
from typing import Annotated, Any, ClassVar, Final

from msgspec import Meta, Raw, Struct, field, structs

from chassis.egress import Request, Response
from contracts.apis import ApiCall
from contracts.codec import Decoder, Malformed
from contracts.limits import MIB, RESPONSE_BYTES
from contracts.nodes import NodeSpec, Repeat
from executor.answers import Reading, headers_of, refusal, succeeded
from executor.answers import body_of as answer_of
from executor.calls import Values
from executor.errors import BadConfig, TooLarge
from executor.forms import form
from executor.identity import identity
from executor.multipart import body_of
from executor.node import Context, Result, SecretField
from executor.paging import Pages, all_pages

_KEY_HEADER: Final = "Idempotency-Key"
_SAFE: Final = frozenset({"GET", "HEAD", "OPTIONS", "PUT", "DELETE"})


class Given(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What the author of the workflow wrote; the form of each operation has said which of it there is."""

    path: dict[str, Any] = field(default_factory=dict)
    query: dict[str, Any] = field(default_factory=dict)
    headers: dict[str, Any] = field(default_factory=dict)
    cookies: dict[str, Any] = field(default_factory=dict)
    body: Raw = field(default_factory=Raw)
    auth: SecretField = None
    auth_as: str | None = None
    server: str | None = None
    timeout_s: Annotated[float, Meta(gt=0, le=3_600)] = 30.0
    max_bytes: Annotated[int, Meta(ge=1, le=RESPONSE_BYTES)] = 10 * MIB
    response: Reading = "auto"
    success: Annotated[tuple[str, ...], Meta(max_length=50)] = ("2xx",)
    pages: Pages | None = None
    honours_key: bool = False


class ApiCallConfig(
    Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, rename={"written": "with"}
):
    call: ApiCall
    written: Raw = field(default_factory=Raw)

    @property
    def given(self) -> Given:
        """Raises `BadConfig` with the place where the author wrote it: they know nothing of `with`."""
        try:
            return _given(bytes(self.written) or b"{}")
        except Malformed as error:
            raise BadConfig("This does not fit here.", field=error.pointer[:1_000]) from None


_given: Final = Decoder[Given](Given)


class ApiCallNode:
    """Carries out every type that an org has imported, and is announced as none itself.

    Repeats as HTTP says of its method; any other call leaves doubt when no answer came.
    """

    spec: ClassVar = NodeSpec(
        type="api.call",
        title="Imported API",
        help="Calls an operation of an imported API.",
        icon="globe",
        category="Network",
        repeat="no",
        config=form(ApiCallConfig),
    )
    config: ClassVar = ApiCallConfig

    def repeat(self, config: ApiCallConfig) -> Repeat:
        if config.call.method in _SAFE:
            return "yes"
        return "by-key" if config.given.honours_key else "no"

    async def run(self, config: ApiCallConfig, context: Context) -> Result:
        calling = await _Calling.of(config, context, repeatable=self.repeat(config) != "no")
        given = config.given
        if given.pages is not None:
            if config.call.method != "GET":
                raise BadConfig("Only a GET has pages.", field="/pages")
            async with context.effect():
                return Result(output=await all_pages(given.pages, calling.ask))
        async with context.effect():
            response = await calling.ask({}, "")
        output = {
            "status": response.status,
            "headers": headers_of(response),
            "body": answer_of(response, given.response),
        }
        return Result(output=output)


class _Calling:
    """The calls of one attempt: one, or one for each page."""

    def __init__(self, config: ApiCallConfig, context: Context, values: Values, request: Request) -> None:
        self._call, self._given = config.call, config.given
        self._context, self._values, self._request = context, values, request
        self._room = self._given.max_bytes

    @classmethod
    async def of(cls, config: ApiCallConfig, context: Context, *, repeatable: bool) -> "_Calling":
        """Raises `BadConfig`, and what opening a secret or asking for a token does; nothing of the call has left."""
        call, given = config.call, config.given
        values = Values(
            call,
            {"path": given.path, "query": given.query, "header": given.headers, "cookie": given.cookies},
        )
        body, kind = await body_of(call.body, given.body, context)
        headers = values.headers()
        if _KEY_HEADER.lower() not in {name.lower() for name in headers}:
            headers[_KEY_HEADER] = context.key
        if kind:
            headers["Content-Type"] = kind
        request = Request(
            method=call.method,
            url=values.url(_server(call, given), {}),
            headers=headers,
            body=body,
            timeout_s=given.timeout_s,
            credential=await identity(call, given.auth, given.auth_as, values.cookies(), context),
            repeatable=repeatable,
        )
        return cls(config, context, values, request)

    async def ask(self, more: Mapping[str, str], where: str) -> Response:
        """One answer, when it is a success. Raises `StepError` and `EgressError`."""
        if self._room < 1:
            raise TooLarge("All pages together are larger than the limit.", field="/max_bytes")
        url = where or (
            self._values.url(_server(self._call, self._given), more) if more else self._request.url
        )
        request = structs.replace(self._request, url=url, max_bytes=self._room)
        response = await self._context.egress.request(request)
        self._room -= len(response.body)
        if not succeeded(response.status, self._given.success):
            raise refusal(response, self._context.now)
        return response


def _server(call: ApiCall, given: Given) -> str:
    server = given.server or call.server
    if not server:
        raise BadConfig("The API's document names no server.", field="/server")
    return server


node = ApiCallNode()
