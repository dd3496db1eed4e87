"""Resumption links: who has the link of a waiting step may answer it, so the link stands nowhere but where it was sent.

Rule that holds here: what is stored or shown anywhere is a mark, which says whose link is meant. An executor puts the link in
its place when it makes a call, and the mark back into what the call brings. The secret part of a link is derived from
the installation's key and stored by nobody.

A mark is made with the run's plan, whose hash no stranger knows: a text from outside that looks like one stays a text.
"""

import base64
import binascii
import hashlib
import hmac
import re
from typing import Final

import msgspec
from msgspec import Struct

from chassis.ids import digest
from chassis.secret import Secret
from contracts.limits import Id, OrgId, StepPath

PATH: Final = "/resume/"
_MARK: Final = re.compile(r"automateos-link~([a-z0-9_.~]{1,600})~([0-9a-f]{32})")
_NUMBER: Final = re.compile(r"~(\d+)")
_PROOF_CHARS: Final = 43
"""SHA-256 in base64 without padding."""
_PLACE_CHARS: Final = 1_200


class Place(Struct, frozen=True, array_like=True):
    """The step that a link belongs to."""

    org: OrgId
    run: Id
    step: StepPath


_decode: Final = msgspec.json.Decoder(Place)


def mark(place: Place, plan: str) -> str:
    """What stands for the link of a step; it has no letter that JSON, HTML or an address would write otherwise."""
    path = place.step.replace("[", "~").replace("]", "")
    proof = digest("\0".join(("link", place.org, place.run, plan, place.step)).encode())
    return f"automateos-link~{path}~{proof[:32]}"


def marked(text: str, org: str, run: str, plan: str) -> dict[str, Place]:
    """The marks of this run in a text, and the steps whose links they mean."""
    found: dict[str, Place] = {}
    for shown in _MARK.finditer(text):
        place = Place(org, run, _NUMBER.sub(r"[\1]", shown[1]))
        if mark(place, plan) == shown[0]:
            found[shown[0]] = place
    return found


class Links:
    """Makes links and knows its own again."""

    def __init__(self, public_url: str, key: Secret) -> None:
        self._address = public_url.rstrip("/") + PATH
        self._key = key

    def link(self, place: Place) -> str:
        named = _text(msgspec.json.encode(place))
        return f"{self._address}{named}.{self._proof(named)}"

    def place(self, token: str) -> Place | None:
        """The step that the last part of a link belongs to; None for what is no link of ours."""
        named, dot, proof = token.partition(".")
        if not dot or len(named) > _PLACE_CHARS or not (token.isascii() and len(proof) == _PROOF_CHARS):
            return None
        if not hmac.compare_digest(proof, self._proof(named)):
            return None
        try:
            return _decode.decode(base64.urlsafe_b64decode(named + "=" * (-len(named) % 4)))
        except (binascii.Error, msgspec.DecodeError):
            return None

    def _proof(self, named: str) -> str:
        return _text(hmac.digest(self._key.reveal(), f"resume {named}".encode(), hashlib.sha256))


def proof_of(link: str) -> str:
    """The part of a link that nobody else may see."""
    return link.rpartition(".")[2]


def _text(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()
