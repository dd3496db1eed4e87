"""Who asks: an API key of one org, and what it may do."""

from msgspec import Struct


class Caller(Struct, frozen=True, kw_only=True):
    """Whoever was authenticated. The org comes from here and from nowhere else."""

    org: str
    key: str
    scopes: frozenset[str]
    digest: bytes = b""
    """SHA-256 of the key's text: what its validity is asked by again while a stream is open."""
    trace: str = ""
    """W3C `traceparent` of the request."""
    pool: str = ""
    """The pool of workers outside that the key is a token of; empty: of none."""
    position: str | None = None
    """The position header: writes that the caller knows of from other processes."""
    said: str | None = None
    """What stands in the header by which a run of ours says that it is one; not proved yet."""

    @property
    def actor(self) -> str:
        return f"key:{self.key}"

    def may(self, scope: str) -> bool:
        return scope in self.scopes
