"""Which run of ours makes a request: said in a header, to our own addresses only, so that who calls himself round and round is known.

Rules that hold here: nobody else can say it, for it carries a proof under the installation's key; it is good for some minutes and
for one org; and whatever does not prove itself is as if nothing had been said.
"""

import base64
import binascii
import hashlib
import hmac
from typing import Annotated, Final

import msgspec
from msgspec import Meta, Struct

from chassis.clock import Clock
from chassis.secret import Secret
from contracts.limits import CAUSE_HEADER_CHARS, CAUSE_SECONDS, CAUSES_DEEP, Id, OrgId, Positive

HEADER: Final = "automateos-cause"
_PROOF_CHARS: Final = 43
"""SHA-256 in base64 without padding."""


class Asking(Struct, frozen=True, array_like=True):
    """The run that makes a request, and what it stands behind."""

    org: OrgId
    run: Id
    at: float
    """Unix seconds of the request."""
    depth: Positive
    """Of what it brings about."""
    chain: Annotated[tuple[Id, ...], Meta(min_length=1, max_length=CAUSES_DEEP)]
    """Workflows, its own the last."""


_decode: Final = msgspec.json.Decoder(Asking)


class Chains:
    """Says which run asks, and knows what it has said again."""

    def __init__(self, key: Secret, clock: Clock) -> None:
        self._key, self._clock = key, clock

    def said(self, org: str, run: str, depth: int, chain: tuple[str, ...]) -> str:
        """What goes into the header, from now on for some minutes."""
        asking = Asking(org, run, self._clock.now().timestamp(), depth, chain)
        named = _text(msgspec.json.encode(asking))
        return f"{named}.{self._proof(named)}"

    def asking(self, text: str, org: str) -> Asking | None:
        """The run of this org that asks; None for whatever does not prove itself here and now."""
        named, dot, proof = text.partition(".")
        if not dot or len(text) > CAUSE_HEADER_CHARS or not (text.isascii() and len(proof) == _PROOF_CHARS):
            return None
        if not hmac.compare_digest(proof, self._proof(named)):
            return None
        try:
            asking = _decode.decode(base64.urlsafe_b64decode(named + "=" * (-len(named) % 4)))
        except (binascii.Error, msgspec.DecodeError):
            return None
        is_fresh = abs(self._clock.now().timestamp() - asking.at) <= CAUSE_SECONDS
        return asking if asking.org == org and is_fresh else None

    def _proof(self, named: str) -> str:
        return _text(hmac.digest(self._key.reveal(), f"cause {named}".encode(), hashlib.sha256))


def _text(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()
