"""What is promised to whoever has past deliveries run again: each has one run by the name of the undertaking, with what came then."""

from collections import defaultdict
from collections.abc import Iterator, Sequence

from tests.promises.evidence import Evidence, History, Violation
from tests.promises.values import UNKNOWN, Values


def past_deliveries_run_again_once(evidence: Evidence, histories: Sequence[History]) -> Iterator[Violation]:
    if not evidence.again:
        return
    values = Values(evidence.values)
    by_run = {(history.org, history.run): history for history in histories}
    first = {
        (history.org, history.start.receipt): history for history in histories if history.start is not None
    }
    asked = defaultdict[tuple[str, str], set[str]](set)
    for again in evidence.again:
        asked[again.org, again.receipt].add(again.undertaking)
        if not again.taken:
            continue
        begun = by_run.get((again.org, again.run))
        if begun is None or begun.start is None:
            yield Violation("P1", f"{again.receipt} was to run again, and there is no such run", again.run)
            continue
        past = first.get((again.org, again.receipt))
        if past is begun or past is None or past.start is None:
            yield Violation("P2", f"{again.receipt} has run again as itself", again.run)
            continue
        given, then = values.read(begun.start.input), values.read(past.start.input)
        if UNKNOWN not in (given, then) and given != then:
            yield Violation("P1", f"what came with {again.receipt} is not what it runs with again", again.run)
    yield from _once_each(asked, histories)


def _once_each(asked: dict[tuple[str, str], set[str]], histories: Sequence[History]) -> Iterator[Violation]:
    found = defaultdict[tuple[str, str], list[str]](list)
    for history in histories:
        if history.start is not None and history.start.cause.kind == "redelivery":
            found[history.org, history.start.cause.id].append(history.run)
    for (org, receipt), runs in found.items():
        if len(runs) > len(asked[org, receipt]):
            wanted = sorted(asked[org, receipt])
            yield Violation("P2", f"{receipt} runs again {len(runs)} times, asked for by {wanted}", runs[0])
