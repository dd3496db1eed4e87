"""A Merkle tree over the heads of histories, in the shape of RFC 6962: one root stands for all of them."""

import hashlib
from typing import Final

_LEAF: Final = b"\x00"
_NODE: Final = b"\x01"
EMPTY: Final = hashlib.sha256(b"").digest()


def leaf(subject: str, version: int, commit_hash: bytes) -> bytes:
    """The leaf of one history: its subject, the version of its newest commit and that commit's hash.

    A subject holds no NUL, so no two heads give the same bytes.
    """
    return hashlib.sha256(b"%s%s\x00%d\x00%s" % (_LEAF, subject.encode(), version, commit_hash)).digest()


class Tree:
    """Takes leaves one after the other and keeps only the roots of full subtrees."""

    def __init__(self) -> None:
        self.leaves = 0
        self._full: list[bytes] = []

    def add(self, leaf_hash: bytes) -> None:
        self.leaves += 1
        self._full.append(leaf_hash)
        pairs = self.leaves
        while pairs % 2 == 0:
            right, left = self._full.pop(), self._full.pop()
            self._full.append(_join(left, right))
            pairs //= 2

    def root(self) -> bytes:
        if not self._full:
            return EMPTY
        root = self._full[-1]
        for left in reversed(self._full[:-1]):
            root = _join(left, root)
        return root


def _join(left: bytes, right: bytes) -> bytes:
    return hashlib.sha256(_NODE + left + right).digest()
