"""A Merkle tree over the heads of histories, in the shape of RFC 6962: one root stands for all of them."""

import hashlib
from collections.abc import Iterable, Sequence
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


def root_of(leaves: Iterable[bytes]) -> bytes:
    tree = Tree()
    for each in leaves:
        tree.add(each)
    return tree.root()


def path(leaves: Sequence[bytes], index: int) -> list[bytes]:
    """The hashes beside the way from a leaf to the root, the lowest first (RFC 6962, 2.1.1)."""
    beside, level = list[bytes](), leaves
    while len(level) > 1:
        if index ^ 1 < len(level):
            beside.append(level[index ^ 1])
        pairs = [_join(*level[place : place + 2]) for place in range(0, len(level) - 1, 2)]
        # The last one of an odd number has no neighbour: it stands in the next level as it is.
        level = [*pairs, level[-1]] if len(level) % 2 else pairs
        index //= 2
    return beside


def root_by(leaf_hash: bytes, index: int, size: int, beside: Sequence[bytes]) -> bytes | None:
    """The root that a leaf and its path lead to (RFC 9162, 2.1.3.2). None: no tree of this size has such a path."""
    if not 0 <= index < size:
        return None
    root, place, last = leaf_hash, index, size - 1
    for neighbour in beside:
        if last == 0:
            return None
        if place % 2 or place == last:
            root = _join(neighbour, root)
            while place % 2 == 0 and place:
                place, last = place >> 1, last >> 1
        else:
            root = _join(root, neighbour)
        place, last = place >> 1, last >> 1
    return root if last == 0 else None
