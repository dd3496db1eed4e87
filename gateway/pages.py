"""Pages of a list: newest first, cut by key and not by number, so that nothing is skipped while rows come in."""

import base64
import binascii
from datetime import datetime
from typing import Annotated, Any, Final, Generic, TypeAlias, TypeVar

import msgspec
from asyncpg import Record
from msgspec import Meta, Struct
from sqlalchemy import Column, Select, tuple_
from sqlalchemy.dialects.postgresql.asyncpg import dialect as asyncpg_dialect

from chassis.edge.problems import Complaint, Problem
from chassis.postgres import Pool, as_org
from contracts.limits import PAGE_ROWS

T = TypeVar("T")

Limit: TypeAlias = Annotated[int, Meta(ge=1, le=PAGE_ROWS)]
Cursor: TypeAlias = Annotated[str, Meta(max_length=400)]
DEFAULT_ROWS: Final = 50


class Page(Struct, Generic[T], frozen=True, kw_only=True):
    """Some rows, and where to go on; `next` is null on the last page."""

    items: list[T]
    next: str | None = None


class _Key(Struct, array_like=True, frozen=True):
    """The row after which the next page begins."""

    time: Annotated[datetime, Meta(tz=True)]
    id: Annotated[str, Meta(max_length=200)]


_decode: Final = msgspec.json.Decoder(_Key)


def cursor_of(time: datetime, id_: str) -> str:
    return encoded(_Key(time, id_))


def encoded(key: Struct) -> str:
    """A cursor that names the row after which the next page begins."""
    return base64.urlsafe_b64encode(msgspec.json.encode(key)).rstrip(b"=").decode()


def parse_cursor(text: str) -> tuple[datetime, str]:
    """Raises `Problem` for anything that is not a cursor of ours."""
    key = parsed(text, _decode)
    return key.time, key.id


def parsed(text: str, decoder: msgspec.json.Decoder[T]) -> T:
    """Raises `Problem` for anything that is not such a cursor of ours."""
    try:
        key = base64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True)
        found = decoder.decode(key)
    except (binascii.Error, msgspec.DecodeError, UnicodeError, ValueError, RecursionError):
        raise Problem(
            "malformed", errors=[Complaint(pointer="cursor", message="This is not a cursor of ours.")]
        ) from None
    if b"\\u0000" in key:
        raise Problem("malformed", errors=[Complaint(pointer="cursor", message="A NUL character.")])
    return found


def newest_first(
    query: Select[Any], time: Column[Any], id_: Column[str], cursor: str | None, limit: int
) -> Select[Any]:
    """One row more than asked for: it tells whether there is a next page."""
    if cursor is not None:
        query = query.where(tuple_(time, id_) < tuple_(*parse_cursor(cursor)))
    return query.order_by(time.desc(), id_.desc()).limit(limit + 1)


def compiled(query: Select[Any]) -> tuple[str, list[Any]]:
    """The query's text with `$1` … and its values, as asyncpg takes them."""
    made = query.compile(dialect=_DIALECT, compile_kwargs={"render_postcompile": True})
    names = made.positiontup or []
    return str(made), [made.params[name] for name in names]


_DIALECT: Final = asyncpg_dialect()  # type: ignore[no-untyped-call]  # SQLAlchemy leaves it untyped.


async def fetch(pool: Pool, org: str, query: Select[Any]) -> list[Record]:
    """The rows that one org may see."""
    text, values = compiled(query)
    async with as_org(pool, org) as connection:
        return await connection.fetch(text, *values)
