"""`automateos up` and `dev`: everything on this machine, until somebody stops it."""

from pathlib import Path

from deploy.commands.here import Asked


def up(*, here: Asked) -> int:
    """Start the servers and the five services; Ctrl-C stops all of them."""
    return _start(here, None)


def dev(*, here: Asked) -> int:
    """Like `up`; a service whose code changes is started again."""
    return _start(here, Path(__file__).resolve().parents[2])


def _start(here: Asked, watch: Path | None) -> int:
    from contracts.streams import STREAMS
    from deploy.local import up as start
    from deploy.wiring import hooks

    batched = [stream.name for stream in STREAMS if stream.batches]
    return start(here.environ, hooks(), batch_streams=batched, watch=watch)
