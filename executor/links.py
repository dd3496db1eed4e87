"""Resumption links in one attempt: in its configuration in place of their marks, and out of all that it brings again."""

from collections.abc import Mapping
from typing import Final

from msgspec import Struct

from chassis.links import Links, marked, proof_of
from chassis.secret import REDACTED
from contracts.messages import Task
from executor.redaction import Redaction

_SLASHES: Final = ("/", "\\/", "\\\\/")
"""As JSON may write one, and JSON in JSON."""


class Linked(Struct, frozen=True):
    """The links that an attempt was given, by their marks."""

    links: Mapping[str, str] = {}

    @property
    def proofs(self) -> list[str]:
        """What must not be seen of them."""
        return [proof_of(link) for link in self.links.values()]

    def text(self, text: str) -> str:
        """With the marks again where links stand, and nothing where only a part of one does."""
        if not self.links:
            return text
        for mark, link in self.links.items():
            for slash in _SLASHES:
                text = text.replace(link.replace("/", slash), mark)
        return Redaction.of(self.proofs).text(text)

    def data(self, data: bytes) -> bytes:
        """The same for bytes of any kind."""
        if not self.links:
            return data
        try:
            return self.text(data.decode()).encode()
        except UnicodeDecodeError:
            for proof in self.proofs:
                data = data.replace(proof.encode(), REDACTED.encode())
            return data


def linked(config: bytes, task: Task, links: Links) -> tuple[bytes, Linked]:
    """The configuration with the run's own links in it."""
    if b"automateos-link~" not in config or not task.plan:
        return config, Linked()
    text = config.decode()
    made = {mark: links.link(place) for mark, place in marked(text, task.org, task.run, task.plan).items()}
    for mark, link in made.items():
        text = text.replace(mark, link)
    return text.encode(), Linked(made)
