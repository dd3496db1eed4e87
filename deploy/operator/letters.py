"""Dead letters: read from the DLQ itself, and driven again by whatever asks the run's owner to look once more.

What an outcome or a wish said is said again. A task is not: its attempt is asked for anew by the run's owner, who sees
that it is missing. Then a parked run is taken up. Redrive is safe to repeat: every message is idempotent at its owner.
"""

from datetime import UTC, datetime

from msgspec import Struct

from chassis.jetstream import JetStream
from contracts.codec import Malformed, decode_message, encode
from contracts.messages import Look, Said, ScheduleLook, ToGate, UnparkRun
from contracts.subjects import DLQ, INBOX, TASKS, partition
from deploy.refusals import Refused

ACTOR = "system"


class Kept(Struct, frozen=True, kw_only=True):
    """One dead letter."""

    number: int
    """Its sequence in the DLQ."""
    stream: str
    """Where it lay before."""
    org: str
    run: str
    time: str
    reason: str
    body: str


async def letters(log: JetStream, org: str) -> list[Kept]:
    """Every letter of an org; those that nobody could even read belong to `_`."""
    found: list[Kept] = []
    async for batch in log.reader(DLQ).read(0):
        for stored in batch:
            _, stream, owner, run = stored.subject.split(".")
            if owner == org:
                found.append(
                    Kept(
                        number=stored.sequence,
                        stream=stream,
                        org=owner,
                        run=run,
                        time=datetime.fromtimestamp(stored.time, UTC).isoformat(),
                        reason=stored.headers.get("reason", ""),
                        body=stored.body.decode(errors="replace"),
                    )
                )
        if not batch:
            break
    return found


async def redrive(log: JetStream, letter: Kept) -> str:
    """What was done, in one line."""
    for message in messages_of(letter):
        await log.inbox.look(partition(letter.run), letter.org, letter.run, encode(message))
    gone = await log.connection.api(f"STREAM.MSG.DELETE.{DLQ}", {"seq": letter.number, "no_erase": True})
    if "error" in gone:
        raise Refused(f"Driven again, but letter {letter.number} stays: {gone['error'].get('description')}.")
    return f"letter {letter.number} was said again to run {letter.run}"


def messages_of(letter: Kept) -> tuple[Said, ...]:
    """What is said to the run's owner: the message or what stands for it, then that the run is taken up.

    To a schedule's owner: that it shall look.
    """
    if letter.stream == INBOX:
        try:
            again = decode_message(letter.body.encode())
        except Malformed as malformed:
            raise Refused(
                f"Letter {letter.number} cannot be read by this release either: {malformed}."
            ) from None
        if isinstance(again, ScheduleLook | ToGate):
            return (again,)
    elif letter.stream == TASKS:
        again = Look(org=letter.org, run=letter.run)
    else:
        raise Refused(
            f"Letter {letter.number} was a message of {letter.stream}, which is still there: "
            "`automateos projections rebuild` reads it again."
        )
    return again, UnparkRun(org=letter.org, run=letter.run, actor=ACTOR)
