"""What the owner of a run says to those who asked, and to those who wait for the run's own answer."""

from collections import defaultdict
from typing import Final

from msgspec import structs

from chassis.ports import Signals
from contracts.codec import encode
from contracts.errors import Failure
from contracts.messages import Answer, Responded, StartRun
from contracts.payloads import Inline
from orchestrator.letters import Letter
from orchestrator.memory import Known

CARRIED_BYTES: Final = 4 * 1024


class Replies:
    """Who waits for which run's own answer (respond mode). Lost with the process: the caller reads the history then."""

    def __init__(self, signals: Signals) -> None:
        self._signals = signals
        self._waiting: dict[str, dict[str, None]] = defaultdict(dict)

    def await_answer(self, run_id: str, reply: str) -> None:
        """A start that comes again is attached again: its first process may have died."""
        self._waiting[run_id][reply] = None

    def tell(self, reply: str, responded: Responded) -> None:
        """Tell one who waits."""
        self._signals.publish(reply, encode(responded))

    def settle(self, known: Known) -> None:
        """Tell everybody who waits for what the run says by now, if it says something."""
        waiting = self._waiting.get(known.run.id)
        responded = responded_of(known) if waiting else None
        if responded is not None:
            for reply in self._waiting.pop(known.run.id):
                self.tell(reply, responded)

    def forget(self) -> None:
        self._waiting.clear()


def responded_of(known: Known) -> Responded | None:
    """What the run answers: what its respond node said, else how it ended; None while it goes on."""
    run = known.run
    said = run.responded
    if said is not None:
        return Responded(
            run=run.id, state="responded", status=said.status, headers=said.headers, body=said.body
        )
    match run.status:
        case "completed":
            return Responded(run=run.id, state="completed", body=run.output)
        case "failed":
            return Responded(run=run.id, state="failed", status=500, error=run.error)
        case "cancelled":
            return Responded(run=run.id, state="cancelled", status=409, error=run.error)
        case _:
            return None


def answer_for(letter: Letter, known: Known, epoch: int, *, changed: bool, refused: Failure | None) -> Answer:
    """The answer to one message, given what is in RUNS now."""
    message = letter.message
    answer = Answer(
        run=message.run,
        result="accepted" if changed else "nothing",
        epoch=epoch,
        sequence=known.sequence,
        receipt=known.receipt,
    )
    if refused is not None:
        return structs.replace(answer, result="refused", error=refused)
    if isinstance(message, StartRun):
        return structs.replace(
            answer,
            result="accepted" if known.receipt == message.receipt else "duplicate",
            request=known.run.request,
            responded=responded_of(known) if message.reply else None,
            gone=known.gone,
        )
    return answer


def fits(responded: Responded) -> bool:
    """Whether a run's answer may travel in a bundle's answers: all of them together are one message."""
    return not isinstance(responded.body, Inline) or len(responded.body.value) <= CARRIED_BYTES


def without_response(answer: Answer) -> Answer:
    """The same answer; the run's own goes another way."""
    return structs.replace(answer, responded=None)
