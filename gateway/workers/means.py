"""Who stands at the desk for workers outside, and what it works with."""

from msgspec import Struct

from chassis.clock import Clock
from chassis.dispatch import Dispatch
from chassis.ports import Blobs, Handing, Letters, Log, Signals
from gateway.sealing import Sealing
from gateway.workers.claims import Claims
from gateway.workers.leases import Leases
from gateway.workers.types import Types


class Worker(Struct, frozen=True, kw_only=True):
    """Who speaks: a token of one pool of one org."""

    org: str
    pool: str
    token: str


class Means(Struct, frozen=True, kw_only=True):
    """What the desk works with."""

    handing: Handing
    leases: Leases
    sealing: Sealing
    claims: Claims
    types: Types
    runs: Log
    tasks: Log
    blobs: Blobs
    dispatch: Dispatch
    letters: Letters
    signals: Signals
    clock: Clock
