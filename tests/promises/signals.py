"""What the promises mean for signals: each is heard once, by the first that waits for it, and nobody's words are lost."""

from collections import Counter
from collections.abc import Iterator, Sequence

from contracts import runs
from contracts.plans import Plan
from tests.promises.evidence import Evidence, History, Violation


def what_was_said_counts_once(evidence: Evidence, histories: Sequence[History]) -> Iterator[Violation]:
    """One saying, one event, however often it arrived; and whoever was told that it is known finds it there."""
    recorded: dict[str, Counter[str]] = {}
    for history in histories:
        keys = recorded[history.run] = Counter(
            event.key for event in history.events if isinstance(event, runs.SignalReceived)
        )
        for key, count in keys.items():
            if count > 1:
                yield Violation("P2", f"signal {key} was recorded {count} times", history.run)
    for saying in evidence.said:
        if not recorded.get(saying.run, Counter())[saying.key]:
            yield Violation("P1", f"signal {saying.key} was {saying.result}, and is not there", saying.run)


def what_was_said_is_heard(evidence: Evidence, histories: Sequence[History]) -> Iterator[Violation]:
    """A signal goes to the first wait for its name, now or later, and its step goes on with it and with nothing else.

    What waits in an item that fails will be dropped with it, and hears nothing any more.
    """
    for history in histories:
        plan = evidence.plans.get(history.start.plan) if history.start is not None else None
        ears = _Ears(history.run, plan)
        for event in history.events:
            yield from ears.hear(event)
        if history.state.parked is None:
            for step, signal in ears.told.items():
                yield Violation("P3", f"{step} was told {signal.signal}, and nothing followed", history.run)


class _Ears:
    """Who listens to what in a run, as its events say it."""

    def __init__(self, run: str, plan: Plan | None) -> None:
        self._run = run
        self._goes_on = {
            node.id
            for node in (plan.nodes if plan is not None else ())
            if node.config.get("on_item_error") == "continue"
        }
        """Maps that go on when an item fails."""
        self._failing: set[str] = set()
        """What the paths of steps begin with in items that fail."""
        self._open: dict[str, runs.WaitOpened] = {}
        self._steps: dict[str, str | None] = {}
        self._kept: list[runs.SignalReceived] = []
        self.told: dict[str, runs.SignalReceived] = {}
        """Steps that heard what they waited for, and have not gone on yet."""

    def hear(self, event: runs.RunEvent) -> Iterator[Violation]:
        match event:
            case runs.SignalReceived():
                yield from self._said(event)
            case runs.WaitOpened():
                self._opened(event)
            case runs.WaitEnded():
                self._open.pop(event.wait, None)
                if self._steps.get(event.wait) in self.told:
                    yield Violation("P3", f"{event.wait} ran out of time after it had been heard", self._run)
            case runs.WaitDropped():
                self._open.pop(event.wait, None)
            case runs.StepSucceeded():
                yield from self._went_on(event)
            case runs.StepCancelled():
                self.told.pop(event.step, None)
            case runs.StepFailed(handled=False):
                self._failed(event.step)
            case runs.RunReopened():
                self._failing.clear()

    def _failed(self, step: str) -> None:
        item = step.rpartition(".")[0]
        container = item.rpartition("[")[0]
        if item:
            self._failing.add(f"{item}.")
        if container and container.rpartition(".")[2] not in self._goes_on:
            self._failing.add(f"{container}[")

    def _said(self, event: runs.SignalReceived) -> Iterator[Violation]:
        wanting = [
            wait
            for wait in self._open.values()
            if wait.signal == event.signal and not (wait.step or "").startswith(tuple(self._failing))
        ]
        if not wanting:
            self._kept.append(event)
        elif wanting[0].step is not None:
            del self._open[wanting[0].wait]
            self.told[wanting[0].step] = event
        meant = wanting[0].step if wanting else None
        if event.step != meant:
            yield Violation(
                "P3",
                f"{event.signal} was for {event.step or 'nobody'}, not for {meant or 'nobody'}",
                self._run,
            )

    def _opened(self, event: runs.WaitOpened) -> None:
        self._steps[event.wait] = event.step
        kept = next((each for each in self._kept if each.signal == event.signal), None)
        if kept is not None and event.step is not None:
            self._kept.remove(kept)
            self.told[event.step] = kept
        else:
            self._open[event.wait] = event

    def _went_on(self, event: runs.StepSucceeded) -> Iterator[Violation]:
        if any(wait.step == event.step and wait.signal for wait in self._open.values()):
            yield Violation("P3", f"{event.step} went on, and nobody had said what it waits for", self._run)
        signal = self.told.pop(event.step, None)
        if signal is not None and (event.ports != ("main",) or event.output != signal.body):
            yield Violation(
                "P3", f"{event.step} heard {signal.signal} and went on with something else", self._run
            )
