"""The inside of the process that reads a stranger's document: bounded, asked once, answers, ends."""

from typing import Final

import msgspec
from msgspec import Struct

from chassis.edge.problems import Complaint
from chassis.solitude import serve
from contracts.apis import ApiTypes
from contracts.limits import MIB
from gateway.apis.documents import read
from gateway.apis.operations import types_of
from gateway.apis.pointers import Refused

MEMORY: Final = 192 * MIB
"""The gateway's container has room for one of these beside itself."""


class Question(Struct, frozen=True, kw_only=True):
    name: str
    version: int
    document: str
    server: str = ""
    base: str = ""


class Answer(Struct, frozen=True, kw_only=True):
    """One of the two."""

    types: ApiTypes | None = None
    complaint: Complaint | None = None


def answered(question: bytes) -> bytes:
    asked = msgspec.json.decode(question, type=Question)
    try:
        document = read(asked.document.encode("utf-8", "surrogatepass"))
        types = types_of(
            document, name=asked.name, version=asked.version, server=asked.server, base=asked.base
        )
        answer = Answer(types=types)
    except Refused as refused:
        answer = Answer(complaint=Complaint(pointer=refused.pointer[:1_000], message=str(refused)))
    return msgspec.json.encode(answer)


if __name__ == "__main__":
    serve(answered, memory=MEMORY)
