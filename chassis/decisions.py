"""A decision as it is said to a run's owner: what its approval marks is sealed before it goes anywhere."""

from collections.abc import Mapping, Sequence
from typing import Any

from msgspec import Raw, Struct

from chassis.ids import digest
from chassis.sealing import Sealer, seal_paths
from chassis.seals import SEALED, mark
from contracts.codec import encode
from contracts.limits import Marks, Sha256
from contracts.payloads import Inline


class Kept(Struct, frozen=True, kw_only=True):
    """What a `DecideApproval` has of what was filled in."""

    fields: Inline
    comment: str


def hash_of(said: Sequence[Any], sealer: Sealer | None) -> Sha256:
    """By which a decision that is said again is known. `sealer`: the run's, where a plain hash would tell what is marked."""
    return digest(encode(said)) if sealer is None else sealer.proof(encode(said))


def kept_of(fields: Mapping[str, Any], comment: str, marks: Marks, sealer: Sealer | None) -> Kept:
    if sealer is None:
        return Kept(fields=Inline(value=Raw(encode(fields))), comment=comment)
    written: Any = {"fields": fields} | ({"comment": comment} if comment else {})
    sealed: Any = seal_paths(written, marks, sealer)
    words = sealed.get("comment", "")
    return Kept(
        fields=Inline(value=Raw(encode(sealed["fields"]))),
        # A comment stays a text: its mark stands in it, as in one that a template wrote.
        comment=words if isinstance(words, str) else mark(words[SEALED]) or "",
    )
