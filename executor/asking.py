"""Hears how a Postgres server asks for the password, before asyncpg answers whatever it is asked.

Rule that holds here: on a line without encryption the password itself is never sent; its proof (SCRAM, MD5) may be.
"""

from typing import Final

_AUTHENTICATION: Final = b"R"
_LET_IN: Final = 0
_IN_THE_CLEAR: Final = 3
_HEAD: Final = 5
_LONGEST: Final = 64 * 1024


class AsksInTheClear(ConnectionError):
    """The server wants the password itself."""


class Listener:
    """Listens from the first byte on until the server has let us in."""

    def __init__(self, *, encrypted: bool) -> None:
        self.refused = False
        self._over = encrypted
        self._heard = b""

    def __call__(self, data: bytes) -> None:
        """Raises `AsksInTheClear`; what is no such question passes."""
        if self._over:
            return
        self._heard += data
        while len(self._heard) >= _HEAD + 4 and not self._over:
            size = 1 + int.from_bytes(self._heard[1:_HEAD], "big")
            question = int.from_bytes(self._heard[_HEAD : _HEAD + 4], "big")
            if self._heard[:1] == _AUTHENTICATION and question == _IN_THE_CLEAR:
                self.refused = True
                raise AsksInTheClear
            if self._heard[:1] == _AUTHENTICATION and question == _LET_IN:
                self._over = True
            if size > _LONGEST:  # Nothing that comes before the question is as long.
                self.refused = True
                raise AsksInTheClear
            if len(self._heard) < size:
                return
            self._heard = self._heard[max(size, _HEAD) :]
