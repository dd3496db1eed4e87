"""Where the next poll of a trigger begins, as whoever started the runs of what was found has written it down."""

from msgspec import Raw

from chassis.ports import Log
from contracts.codec import Decoder
from contracts.occasions import Cursor
from contracts.subjects import cursor as cursor_subject

_cursor = Decoder[Cursor](Cursor)


class Cursors:
    """MARKS, as far as polls go."""

    def __init__(self, marks: Log) -> None:
        self._marks = marks

    async def of(self, org: str, trigger: str) -> Raw:
        """Null before the first poll that gave one. Raises `Away`."""
        subject = cursor_subject(org, trigger)
        stored = (await self._marks.last([subject])).get(subject)
        return _cursor(stored.body).cursor if stored is not None else Raw(b"null")
