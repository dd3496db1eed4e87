"""P5: an effect repeats only under the same key, and what must not be repeated blindly happens once or is in doubt."""

import hashlib
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from itertools import pairwise

import msgspec

from contracts import runs
from contracts.codec import encode
from contracts.payloads import Inline, Payload
from contracts.runs import RunEvent
from contracts.subjects import effect
from tests.promises.evidence import Effect, Evidence, History, Violation


def effects_happen_as_told(evidence: Evidence, histories: Sequence[History]) -> Iterator[Violation]:
    by_run = {history.run: history for history in histories}
    by_step = defaultdict[tuple[str, str], list[Effect]](list)
    for happened in evidence.effects:
        by_step[happened.run, happened.step].append(happened)
    for (run, step), happenings in by_step.items():
        history = by_run.get(run)
        if history is None:
            yield Violation("P5", f"step {step} had an effect, but there is no such run", run)
            continue
        yield from _under_its_key(history, step, happenings)
        if happenings[0].repeat == "no":
            yield from _once(history, step, happenings)
    for history in histories:
        yield from _results_are_the_worlds(history, by_step)
        yield from _doubts_are_justified(evidence, history)
        yield from _people_are_obeyed_once(evidence, history)


def _under_its_key(history: History, step: str, happenings: Sequence[Effect]) -> Iterator[Violation]:
    scheduled = {
        event.attempt: event.key
        for event in history.events
        if isinstance(event, runs.AttemptScheduled) and event.step == step
    }
    if len(set(scheduled.values())) > 1:
        yield Violation("P5", f"attempts at {step} have different keys: {scheduled}", history.run)
    for happened in happenings:
        if scheduled.get(happened.attempt) != happened.key:
            yield Violation(
                "P5", f"attempt {happened.attempt} at {step} acted under key {happened.key}, decided was "
                f"{scheduled.get(happened.attempt)}", history.run
            )  # fmt: skip


def _once(history: History, step: str, happenings: Sequence[Effect]) -> Iterator[Violation]:
    """What must not be repeated blindly happened once per attempt, and again only because a person said so."""
    counts = Counter(happened.attempt for happened in happenings)
    for attempt, count in counts.items():
        if count > 1:
            yield Violation("P5", f"attempt {attempt} at {step} acted {count} times", history.run)
        said = [e for e in history.of_step(step) if getattr(e, "attempt", 0) == attempt]
        if any(isinstance(event, runs.AttemptFailed) for event in said):
            yield Violation(
                "P5", f"attempt {attempt} at {step} acted, and the history says that it failed", history.run
            )
        if any(isinstance(event, runs.AttemptCancelled) and event.effect == "none" for event in said):
            yield Violation(
                "P5", f"attempt {attempt} at {step} acted, and the history says that it did not", history.run
            )
    for earlier, later in pairwise(sorted(counts)):
        if not _allowed_again(history.of_step(step), earlier, later):
            yield Violation(
                "P5", f"attempts {earlier} and {later} at {step} both acted, and nobody said so", history.run
            )


def _allowed_again(events: Sequence[RunEvent], earlier: int, later: int) -> bool:
    """Whether between two attempts a person decided that the first one does not count."""
    between = False
    for event in events:
        if isinstance(event, runs.AttemptScheduled):
            between = earlier <= event.attempt < later
        elif between and isinstance(event, runs.DoubtResolved):
            return event.resolution in ("retry", "failed")
    return False


def _results_are_the_worlds(
    history: History, by_step: Mapping[tuple[str, str], Sequence[Effect]]
) -> Iterator[Violation]:
    for event in history.events:
        if not isinstance(event, runs.StepReported):
            continue
        results = {encode(happened.result) for happened in by_step.get((history.run, event.step), ())}
        if not any(_is(event.output, result) for result in results):
            yield Violation(
                "P5",
                f"the world never answered {event.step} what attempt {event.attempt} reports",
                history.run,
            )


def _is(payload: Payload, value: bytes) -> bool:
    if isinstance(payload, Inline):
        return bool(msgspec.json.decode(payload.value) == msgspec.json.decode(value))
    return payload.sha256 == hashlib.sha256(value).hexdigest()


def _doubts_are_justified(evidence: Evidence, history: History) -> Iterator[Violation]:
    """In doubt only where a call was claimed: the world may have been touched."""
    for event in history.events:
        if isinstance(event, runs.AttemptDoubted):
            subject = effect(history.org, history.run, event.step, event.attempt)
            if not evidence.claims.get(subject):
                yield Violation(
                    "P5", f"attempt {event.attempt} at {event.step} is in doubt without a claim", history.run
                )
    for subject, count in evidence.claims.items():
        if count > 1 and f".{history.run}." in subject:
            yield Violation("P5", f"{count} claims on {subject}", history.run)


def _people_are_obeyed_once(evidence: Evidence, history: History) -> Iterator[Violation]:
    """However often a wish is told, it is granted once. To stop a run that was parked meanwhile is the same wish."""
    wished = Counter[str](wish.kind for wish in evidence.wishes if wish.run == history.run)
    granted, stopped_in, opening = Counter[str](), set[int](), 1
    for event in history.events:
        match event:
            case runs.RunReopened():
                granted["retry"] += 1
                opening += 1
            case runs.CancelRequested() if not event.by.startswith(("run:", "gate:", "sweeper")):
                stopped_in.add(opening)
            case runs.DoubtResolved():
                granted["resolve"] += 1
    granted["cancel"] = len(stopped_in)
    for kind, count in granted.items():
        if count > wished[kind]:
            yield Violation(
                "P5", f"{kind} happened {count} times and was wished {wished[kind]} times", history.run
            )
