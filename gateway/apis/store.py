"""Imports APIs into an org, and knows the node types that it has by them.

Rule that holds here: a version is made once and never changed; whoever asks sees those of their own org and no others.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Final, Protocol

import msgspec
from msgspec import structs

from chassis.edge.problems import Complaint, Problem, unavailable
from chassis.egress import Credential, Egress, EgressError, Request
from chassis.ports import Blobs
from chassis.secluded import Broken, Secluded, TooMuch
from chassis.vault import OpenedSecret
from contracts.apis import PREFIX, ApiImport, ApiTypes, OrgApiImported
from contracts.codec import Decoder, encode
from contracts.limits import API_TYPES_BYTES, APIS_BYTES, MIB, OPENAPI_BYTES
from contracts.nodes import NodeSpec
from contracts.payloads import Blob
from contracts.subjects import DOMAIN
from gateway.apis.reader import Answer, Question
from gateway.apis.views import ApiOperation, ApiVersion, ApiView, Changes, ImportApi
from gateway.callers import Caller
from gateway.domain import Domain, cause_of
from gateway.orgs.rules import ORG, ApiState, import_api, remove_api
from gateway.payloads import bytes_of
from gateway.places import Places
from gateway.rejected import absent

FETCH_SECONDS: Final = 20.0
READ_SECONDS: Final = 30.0
AT_ONCE: Final = 8
"""Imports under way in this process; more are refused."""
_LARGEST: Final = API_TYPES_BYTES + 2 * MIB
_decode: Final = Decoder[ApiTypes](ApiTypes)
_answer: Final = msgspec.json.Decoder(Answer)


class Keeper(Protocol):
    """The vault, as far as opening goes."""

    async def open(self, org: str, secret_id: str) -> OpenedSecret: ...


class Apis:
    def __init__(self, domain: Domain, blobs: Blobs, places: Places, egress: Egress, vault: Keeper) -> None:
        self._domain, self._blobs, self._places = domain, blobs, places
        self._egress, self._vault = egress, vault
        self._reader = Secluded("gateway.apis.reader", seconds=READ_SECONDS, most=_LARGEST, at_once=1)
        self._reading = 0
        self._known: dict[str, tuple[ApiTypes, int]] = {}

    # --- Imports --------------------------------------------------------------------------------

    async def bring(self, caller: Caller, wanted: ImportApi) -> ApiVersion:
        """Read a document and offer its operations as node types, in a new version unless nothing is new."""
        name, text = wanted.name, await self._text(caller, wanted)
        state = await self._domain.load(ORG, caller.org, caller.org)
        known = state.apis.get(name, ApiState())
        version = len(known.imports) + 1
        types = await self._read(
            Question(
                name=name,
                version=version,
                document=text,
                server=wanted.server or "",
                base=wanted.url or "",
            )
        )
        before = await self._types(known.imports[-1].types) if known.imports and not known.removed else None
        changes = changes_of(before, types)
        if before is not None and not (changes.added or changes.changed or changes.removed):
            return _version_of(name, len(known.imports), before, changes)
        event = OrgApiImported(
            name=name,
            version=version,
            title=types.title,
            operations=len(types.types),
            document=await self._blobs.put(encode({"text": text})),
            types=await self._blobs.put(encode(types)),
        )
        changed = await self._domain.change(
            ORG, caller.org, lambda state: import_api(state, event), cause_of(caller)
        )
        self._places.wrote(caller.org, DOMAIN, changed.place)
        return _version_of(name, version, types, changes)

    async def remove(self, caller: Caller, name: str) -> None:
        """Its node types are offered no more. What was published with them goes on."""
        changed = await self._domain.change(
            ORG, caller.org, lambda state: remove_api(state, name), cause_of(caller)
        )
        self._places.wrote(caller.org, DOMAIN, changed.place)

    async def _text(self, caller: Caller, wanted: ImportApi) -> str:
        if (wanted.document is None) == (wanted.url is None):
            raise _bad("", "Give a document or a URL, one of the two.", "malformed")
        if wanted.url is None:
            return wanted.document or ""
        credential = None
        if wanted.secret is not None:
            opened = await self._vault.open(caller.org, wanted.secret)
            credential = Credential(value=opened.value, allowed_hosts=opened.allowed_hosts)
        request = Request(
            method="GET",
            url=wanted.url,
            headers={"Accept": "application/json, application/yaml, */*"},
            timeout_s=FETCH_SECONDS,
            max_bytes=OPENAPI_BYTES,
            credential=credential,
        )
        try:
            response = await self._egress.request(request)
        except EgressError as error:
            raise _bad("/url", str(error)) from None
        if response.status != 200:
            raise _bad("/url", f"The other side answered with status {response.status}.")
        try:
            return response.body.decode("utf-8-sig")
        except UnicodeDecodeError:
            raise _bad("", "The document is no text in UTF-8.") from None

    async def _read(self, question: Question) -> ApiTypes:
        """In a process that is killed when the document makes it take too much; one after the other."""
        if self._reading >= AT_ONCE:
            raise Problem("overloaded", "Others import APIs right now.", headers={"retry-after": "5"})
        self._reading += 1
        try:
            answer = _answer.decode(await self._reader.answer(encode(question)))
        except TooMuch as error:
            raise _bad("", f"The document is too much to read: {error}") from None
        except Broken:
            raise _bad("", "The document cannot be read.") from None
        finally:
            self._reading -= 1
        if answer.complaint is not None:
            raise Problem("api.bad_document", errors=[answer.complaint])
        if answer.types is None:
            raise unavailable("The document was read and nothing came of it.")
        return answer.types

    # --- What there is --------------------------------------------------------------------------

    async def list(self, org: str) -> list[ApiView]:
        state = await self._domain.load(ORG, org, org)
        return [
            ApiView(
                name=name,
                title=api.imports[-1].title,
                version=len(api.imports),
                operations=api.imports[-1].operations,
            )
            for name, api in sorted(state.apis.items())
            if not api.removed
        ]

    async def version(self, org: str, name: str, version: int | None) -> ApiVersion:
        """One import, and what it changed."""
        api = (await self._domain.load(ORG, org, org)).api(name)
        number = len(api.imports) if version is None else version
        if not 1 <= number <= len(api.imports):
            raise absent("version of the API")
        types = await self._types(api.imports[number - 1].types)
        before = await self._types(api.imports[number - 2].types) if number > 1 else None
        return _version_of(name, number, types, changes_of(before, types))

    async def specs(self, org: str) -> Mapping[str, NodeSpec]:
        """The org's own node types in their newest version."""
        state = await self._domain.load(ORG, org, org)
        found: dict[str, NodeSpec] = {}
        for api in state.apis.values():
            if not api.removed:
                types = await self._types(api.imports[-1].types)
                found |= {each.spec.type: each.spec for each in types.types}
        return found

    async def spec(self, org: str, node_type: str) -> NodeSpec | None:
        """One of the org's own; `type@version` names an older version."""
        kind, _, version = node_type.partition("@")
        named = await self.imports(org, [(kind, int(version) if version.isdecimal() else None)])
        for each in named:
            for found in (await self._types(each.types)).types:
                if found.spec.type == kind:
                    return found.spec
        return None

    async def imports(self, org: str, named: Iterable[tuple[str, int | None]]) -> Sequence[ApiImport]:
        """The imports that node types come from: of each the newest, or the version that is named with it."""
        wanted = {
            (kind.split(".")[1], version)
            for kind, version in named
            if kind.split(".")[0] == PREFIX and "." in kind
        }
        if not wanted:
            return []
        state = await self._domain.load(ORG, org, org)
        found: dict[tuple[str, int], ApiImport] = {}
        for name, version in sorted(wanted, key=str):
            api = state.apis.get(name)
            # A version that is named goes on although the API is offered no more.
            if api is None or (api.removed and version is None):
                continue
            number = len(api.imports) if version is None else version
            if 1 <= number <= len(api.imports):
                found[name, number] = ApiImport(
                    name=name,
                    version=number,
                    newest=number == len(api.imports) and not api.removed,
                    types=api.imports[number - 1].types,
                )
        return list(found.values())

    async def _types(self, stored: Blob) -> ApiTypes:
        """Never changed, so read once, while there is room to keep it."""
        known = self._known.get(stored.sha256)
        if known is None:
            known = (_decode(await bytes_of(stored, self._blobs)), stored.size)
            self._known[stored.sha256] = known
            while len(self._known) > 1 and sum(size for _, size in self._known.values()) > APIS_BYTES:
                del self._known[next(iter(self._known))]
        return known[0]


def changes_of(before: ApiTypes | None, after: ApiTypes) -> Changes:
    """What differs, operation by operation; the version alone is no difference."""
    old = {each.spec.type: each for each in before.types} if before else {}
    new = {each.spec.type: each for each in after.types}
    changed = tuple(
        kind
        for kind in sorted(old.keys() & new.keys())
        if old[kind].call != new[kind].call
        or structs.replace(old[kind].spec, version=1) != structs.replace(new[kind].spec, version=1)
    )
    return Changes(
        added=tuple(sorted(new.keys() - old.keys())),
        changed=changed,
        removed=tuple(sorted(old.keys() - new.keys())),
        same=len(old.keys() & new.keys()) - len(changed),
    )


def _version_of(name: str, version: int, types: ApiTypes, changes: Changes) -> ApiVersion:
    return ApiVersion(
        name=name,
        title=types.title,
        version=version,
        operations=[
            ApiOperation(
                type=each.spec.type, title=each.spec.title, method=each.call.method, path=each.call.path
            )
            for each in types.types
        ],
        skipped=types.skipped,
        changes=changes,
    )


def _bad(pointer: str, message: str, code: str = "api.bad_document") -> Problem:
    return Problem(code, errors=[Complaint(pointer=pointer, message=message)])
