"""People at work on a simulated installation: they cancel, try again, resolve doubts and take parked runs up."""

import asyncio
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Final, Literal, TypeAlias

from msgspec import Raw, structs

from chassis.dispatch import QUEUED, Dispatch
from chassis.ids import digest
from chassis.ports import Away, Stored
from chassis.testing.world import World
from contracts.codec import encode
from contracts.messages import (
    CallWait,
    CancelRun,
    DecideApproval,
    Message,
    ResolveDoubt,
    RetryRun,
    SendSignal,
    UnparkRun,
)
from contracts.payloads import Inline, Payload, null
from contracts.runs import WaitOpened
from contracts.waits import CALLER, LINK, Verdict
from orchestrator.run import Run, evolve
from tests.promises.evidence import Answered, Decoded, Kind, Meant, Said, Wish
from tests.simulation.outside import Outside
from tests.simulation.told import Story
from tests.simulation.workflows import SIGNALS

Resolution: TypeAlias = Literal["done", "retry", "failed"]
PERSON: Final = "key:person"
_PATIENCE: Final = 3
_UNDONE: Final[tuple[Resolution, ...]] = ("retry", "retry", "failed")


class Person:
    """Looks at the runs now and then, and does something about what it sees."""

    def __init__(
        self,
        world: World,
        story: Story,
        histories: Mapping[str, Sequence[Stored]],
        outside: Outside,
        dispatch: Dispatch,
        decoded: Decoded,
    ) -> None:
        self._world = world
        self._story = story
        self._histories = histories
        self._outside = outside
        self._dispatch = dispatch
        self._decoded = decoded
        self._states: dict[str, tuple[int, Run]] = {}
        self._done: dict[str, int] = {}
        self._retries: Counter[str] = Counter()
        self._may_retry = story.retries
        self._awake = asyncio.Event()
        self._awake.set()
        self.diligent = False
        """From now on everything that waits for a person is dealt with at every look."""
        self.wishes: list[Wish] = []
        self.said: list[Said] = []
        self.answered: list[Answered] = []
        self.meant: list[Meant] = []
        self._answers: list[DecideApproval | CallWait] = []
        """What was answered, to be said again: late, twice, by somebody else, or otherwise."""

    def tries_again(self, often: int) -> None:
        """Runs that have not ended well may be tried again so many more times."""
        self._may_retry += often

    def rest(self) -> None:
        """Look at nothing, until `goes_on`."""
        self._awake.clear()

    def goes_on(self) -> None:
        self._awake.set()

    async def run(self) -> None:
        async with asyncio.TaskGroup() as group:
            group.create_task(self._dispatch.run())
            looked_in_vain = 0
            while True:
                # Who has found nothing to do for a minute looks less often: some waits are an hour long.
                seldom = 1 if looked_in_vain < 40 else 10
                await asyncio.sleep((0.5 + self._world.random.random() * 2) * seldom)
                await self._awake.wait()
                looked_in_vain += 1
                for subject in list(self._histories):
                    run = self.state_of(subject)
                    message = self._wanted(run, self._states[subject][0])
                    if message is not None:
                        looked_in_vain = 0
                        group.create_task(self._say(message))

    async def _say(self, message: Message) -> None:
        """Until somebody has taken it: the answer to an unclear request is to ask again."""
        if isinstance(message, DecideApproval | CallWait):
            self.meant.append(Meant(**_named(message)))
        while True:
            try:
                answer = await self._dispatch.send(message)
            except Away:
                await asyncio.sleep(0.3)
                continue
            if isinstance(message, SendSignal) and answer is not QUEUED and not answer.error:
                self.said.append(Said(run=message.run, key=message.key, result=answer.result))
            if isinstance(message, DecideApproval | CallWait) and answer is not QUEUED and not answer.error:
                self.answered.append(Answered(result=answer.result, **_named(message)))
            return

    def state_of(self, subject: str) -> Run:
        """What a run's history says now; folded on from where it was looked at last."""
        _, org, run = subject.split(".")
        history = self._histories[subject]
        count, state = self._states.get(subject, (0, Run.new(org, run)))
        for stored in history[count:]:
            commit = self._decoded[stored.body]
            for event in commit.events:
                state = evolve(state, event, commit.time)
        self._states[subject] = (len(history), state)
        return state

    def _wanted(self, run: Run, version: int) -> Message | None:
        chance = self._world.random.random()
        if self._done.get(run.id) == version and not (self.diligent and chance < 0.5):
            return None  # Wished for already; a moment of impatience asks again.
        eager = self.diligent or chance < 0.3
        message: Message | None = None
        if run.status == "parked":
            mended = self.diligent or not self._story.broken_code
            message = self._unpark(run) if eager and mended else None
        elif run.phase in ("failed", "cancelled"):
            message = self._retry(run) if eager else None
        elif run.active and chance < self._story.cancels and not self.diligent:
            self._wish(run, "cancel")
            message = CancelRun(org=run.org, run=run.id, actor=PERSON, opening=run.opening, reason="enough")
        elif eager and run.doubts:
            message = self._resolve(run)
        elif eager and run.active:
            message = self._answer(run) or self._signal(run, version)
        if message is not None:
            self._done[run.id] = version
        return message

    def _wish(self, run: Run, kind: Kind, step: str = "", resolution: str = "") -> None:
        at = self._world.loop.time()
        self.wishes.append(Wish(at=at, run=run.id, kind=kind, step=step, resolution=resolution))

    def _unpark(self, run: Run) -> Message:
        """A run that nobody here can go on with is given up in the end."""
        if sum(wish.kind == "unpark" and wish.run == run.id for wish in self.wishes) > _PATIENCE:
            self._wish(run, "cancel")
            return CancelRun(
                org=run.org, run=run.id, actor=PERSON, opening=run.opening, reason="nobody can go on with it"
            )
        self._wish(run, "unpark")
        return UnparkRun(org=run.org, run=run.id, actor=PERSON)

    def _retry(self, run: Run) -> Message | None:
        if self._retries[run.id] >= self._may_retry:
            return None
        self._retries[run.id] += 1
        self._wish(run, "retry")
        return RetryRun(org=run.org, run=run.id, actor=PERSON, opening=run.opening)

    def _answer(self, run: Run) -> Message | None:
        """Decide, or call; now and then say again what was said, in other words or as somebody else."""
        chance = self._world.random
        again = [each for each in self._answers if each.run == run.id]
        if again and not self.diligent and chance.random() < 0.3:
            return self._said_again(chance.choice(again))
        asking = [wait for wait in run.waits.values() if wait.kind in ("approval", "call")]
        if not asking:
            return None
        answer = self._answer_to(run, chance.choice(asking))
        self._answers.append(answer)
        return answer

    def _answer_to(self, run: Run, wait: WaitOpened) -> DecideApproval | CallWait:
        step, chance = wait.step or "", self._world.random
        if wait.approval is None:
            body = encode(chance.randrange(3))
            return CallWait(
                org=run.org,
                run=run.id,
                actor=CALLER,
                step=step,
                request=digest(body),
                body=Inline(value=Raw(body)),
            )
        asked = wait.approval.deciders or (PERSON, LINK)
        decision: Verdict = chance.choice(("approved", "rejected"))
        return DecideApproval(
            org=run.org,
            run=run.id,
            actor=chance.choice(asked) if self.diligent else chance.choice((*asked, PERSON, "key:stranger")),
            step=step,
            decision=decision,
            request=digest(decision.encode()),
            fields=Inline(value=Raw(b"{}")),
        )

    def _said_again(self, answer: DecideApproval | CallWait) -> Message:
        match self._world.random.choice(("same", "other", "somebody")):
            case "other" if isinstance(answer, DecideApproval):
                decision: Verdict = "rejected" if answer.decision == "approved" else "approved"
                return structs.replace(answer, decision=decision, request=digest(decision.encode()))
            case "somebody":
                return structs.replace(answer, actor="key:other")
            case _:
                return answer

    def _signal(self, run: Run, version: int) -> Message | None:
        """Say what it waits for; now and then also what it may wait for later.

        Another wait may take it that listens to the same name: so what is said after the next commit is another saying.
        """
        awaited = [wait for wait in run.waits.values() if wait.signal is not None]
        if awaited:
            wait = self._world.random.choice(awaited)
            key, name = f"{wait.wait}/{version}", wait.signal
        elif not self.diligent and self._world.random.random() < 0.2:
            name = self._world.random.choice(SIGNALS)
            key = f"before/{name}/{self._world.random.randrange(2)}"
        else:
            return None
        assert name is not None
        body = Inline(value=Raw(encode(key)))
        # Nothing is marked here, as whoever looked into the plan knows.
        return SendSignal(
            org=run.org, run=run.id, actor=PERSON, signal=name, key=key, body=body, is_sealed=True
        )

    def _resolve(self, run: Run) -> Message:
        """Look at the world: what happened is marked done; what did not is tried again or given up."""
        step = self._world.random.choice(sorted(run.doubts))
        known = self._outside.by_key.get(f"{run.id}/{step}")
        resolution: Resolution = "done" if known is not None else self._world.random.choice(_UNDONE)
        output: Payload = Inline(value=Raw(encode(known.result))) if known is not None else null()
        self._wish(run, "resolve", step, resolution)
        return ResolveDoubt(
            org=run.org,
            run=run.id,
            actor=PERSON,
            step=step,
            attempt=run.doubts[step],
            resolution=resolution,
            output=output,
        )


def _named(message: DecideApproval | CallWait) -> dict[str, str]:
    """Who says what to whom."""
    return {"run": message.run, "step": message.step, "by": message.actor, "request": message.request}
