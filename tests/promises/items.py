"""What the promises mean for maps and loops: each item begins once, is over once, and its result stands in its place.

Told by the events alone: nothing here asks how the orchestrator remembers items.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final, TypeAlias

from msgspec import Struct, field

from contracts import runs
from contracts.errors import Failure
from contracts.limits import ITEMS_PER_PAGE, NodeId, StepPath
from contracts.payloads import NULL, Payload
from contracts.plans import Plan, PlanNode
from orchestrator.catalogue import AT_ONCE, ROUNDS
from tests.promises.evidence import Evidence, History, Violation
from tests.promises.values import UNKNOWN, Found, Values

_BEGINS: Final = (
    runs.AttemptScheduled,
    runs.ItemsOpened,
    runs.ItemsBegan,
    runs.WaitOpened,
    runs.ChildAsked,
)
_OF_ITEMS: Final = (
    runs.ItemsOpened,
    runs.ItemsPaged,
    runs.ItemsBegan,
    runs.ItemDone,
    runs.ItemFailed,
    runs.ItemsKept,
)
_WENT_ON: Final = (runs.AttemptScheduled, runs.WaitOpened, runs.ItemsOpened)
_OUTCOMES: Final = (
    runs.StepReported,
    runs.AttemptFailed,
    runs.AttemptCancelled,
    runs.DoubtResolved,
)
_ANSWERED: Final = (
    runs.SignalReceived | runs.CallReceived | runs.ApprovalDecided | runs.ChildBegan | runs.ChildEnded
)
_PASS_ON: Final = frozenset({"noop", "filter", "if", "switch", "delay"})
_SETTLES: Final = (runs.StepSucceeded, runs.StepFailed, runs.StepSkipped, runs.StepCancelled)


def items_are_done_once_and_in_order(evidence: Evidence, histories: Sequence[History]) -> Iterator[Violation]:
    for history in histories:
        plan = evidence.plans.get(history.start.plan) if history.start is not None else None
        told = _Told(plan, evidence.values)
        for event in history.events:
            for promise, what in told.hear(event):
                yield Violation(promise, what, history.run)
        state = history.state
        left = [*state.items, *(path for path in state.steps if "[" in path)]
        if state.phase == "completed" and left:
            yield Violation("P4", f"completed, and still remembered of it is {left}", history.run)


class _Container(Struct, kw_only=True):
    """One map or loop under way, as its events tell it."""

    count: int | None
    pages: int = 0
    begun: int = 0
    open: set[int] = field(default_factory=set)
    failing: set[int] = field(default_factory=set)
    came: dict[int, Payload | Failure] = field(default_factory=dict)
    kept: set[int] = field(default_factory=set)


_OfItems: TypeAlias = (
    runs.ItemsOpened | runs.ItemsPaged | runs.ItemsBegan | runs.ItemDone | runs.ItemFailed | runs.ItemsKept
)


class _Told:
    """What a history has said of its items so far."""

    def __init__(self, plan: Plan | None, values: Mapping[str, bytes]) -> None:
        self._nodes: dict[NodeId, PlanNode] = {node.id: node for node in plan.nodes} if plan else {}
        self._before: dict[NodeId, tuple[NodeId, ...]] = {
            name: tuple({edge.source for edge in plan.edges if edge.target == name} if plan else ())
            for name in self._nodes
        }
        self._values = Values(values)
        self._containers: dict[StepPath, _Container] = {}
        self._outputs: dict[StepPath, Payload] = {}
        self._under_way: set[StepPath] = set()
        self._unsettled: set[StepPath] = set()
        """Steps that something happened to and that are not done."""
        self._settled: set[StepPath] = set()
        self._succeeded: set[StepPath] = set()
        self._waits: dict[str, StepPath] = {}
        self._stops = False
        self._undoes = False

    def hear(self, event: runs.RunEvent) -> Found:
        self._undoes = self._undoes or isinstance(event, runs.RunCompensating)
        if self._undoes:
            return  # Nothing of any item goes on; what is undone is another promise.
        path = getattr(event, "step", None)
        if isinstance(path, str) and not isinstance(event, runs.SignalReceived | runs.RunFailed):
            yield from self._lies_in_what_is_open(event, path)
        if isinstance(event, _OF_ITEMS):
            yield from self._of_items(event)
        else:
            yield from self._of_the_run(event)
        if isinstance(path, str):
            yield from self._of_step(event, path)

    def _of_the_run(self, event: runs.RunEvent) -> Found:
        match event:
            case runs.CancelRequested() | runs.DeadlinePassed() | runs.RunStopping():
                self._stops = True
            case runs.RunReopened():
                self._stops = False
                for known in self._containers.values():
                    known.failing.clear()
                self._unsettled |= self._settled & set(event.steps)
                self._settled -= set(event.steps)
            case runs.RunCompleted():
                for container in self._containers:
                    yield "P3", f"completed, and {container} is under way"
            case runs.WaitOpened():
                self._waits[event.wait] = event.step or event.wait.removeprefix("turn:")
            case runs.WaitEnded() | runs.WaitDropped():
                self._waits.pop(event.wait, None)
                kind, _, step = event.wait.partition(":")
                if kind == "approval":
                    self._waits.pop(f"escalation:{step}", None)

    # --- Steps ------------------------------------------------------------------------------------

    def _lies_in_what_is_open(self, event: runs.RunEvent, path: StepPath) -> Found:
        begins = isinstance(event, _BEGINS)
        inner = path
        while "." in inner:
            container, number = _item_around(inner)
            known = self._containers.get(container)
            kind = type(event).__name__
            if known is None or number not in known.open:
                yield "P4", f"{kind} of {path}, and item {number} of {container} is not under way"
            elif begins and (number in known.failing or (known.failing and not self._goes_on(container))):
                yield "P3", f"{kind} of {path}, although {container} has an item that failed"
            inner = container

    def _of_step(self, event: runs.RunEvent, path: StepPath) -> Found:
        if isinstance(event, _WENT_ON):
            self._unsettled.add(path)
        if isinstance(event, runs.AttemptScheduled):
            self._under_way.add(path)
        elif isinstance(event, runs.StepCancelled) and path in self._under_way:
            if self._nodes and not self._stops:
                yield "P5", f"{path} was cancelled while its attempt was under way"
        elif isinstance(event, _OUTCOMES):
            self._under_way.discard(path)
        self._gave(event, path)
        if isinstance(event, runs.StepSucceeded):
            yield from self._succeeds(event)
        elif isinstance(event, runs.StepFailed):
            yield from self._failed(event)
        if isinstance(event, _SETTLES):
            self._under_way.discard(path)
            self._unsettled.discard(path)
            self._settled.add(path)

    def _gave(self, event: runs.RunEvent, path: StepPath) -> None:
        """What a step gives, and that it waits no longer for what was said."""
        match event:
            case runs.StepReported() | runs.StepSucceeded() | runs.DoubtResolved() | runs.ChildEnded():
                self._outputs[path] = event.output or self._outputs.get(path, NULL)
            case runs.RunResponded():
                self._outputs[path] = event.body
        if isinstance(event, runs.StepSucceeded | _ANSWERED):
            # It was said: now, or before anything waited for it.
            self._waits = {wait: step for wait, step in self._waits.items() if step != path}

    def _succeeds(self, event: runs.StepSucceeded) -> Found:
        yield from self._passes_on(event)
        if event.step in self._containers:
            yield from self._over(event.step)
        self._succeeded.add(event.step)

    def _passes_on(self, event: runs.StepSucceeded) -> Found:
        """Whoever passes on gives what the one before gave in the same item; who is pinned, what the pin says."""
        node = self._nodes.get(_node(event.step))
        if node is not None and node.pin is not None:
            if event.output is None or not self._values.same(
                self._values.read(event.output), node.pin.output
            ):
                yield "P4", f"{event.step} gives what its pin does not say"
            return
        before = self._before.get(_node(event.step), ())
        if node is None or node.type not in _PASS_ON or len(before) != 1 or event.output is None:
            return
        item = event.step.rpartition(".")[0]
        source = f"{item}.{before[0]}" if item else before[0]
        given = self._outputs.get(source)
        if (
            source in self._succeeded
            and given is not None
            and not self._values.same(self._values.read(event.output), given)
        ):
            yield "P4", f"{event.step} passes on what {source} did not give"

    def _failed(self, event: runs.StepFailed) -> Found:
        path = event.step
        if event.handled and path in self._containers:
            yield from self._nothing_goes_on(f"{path}[", path)
            if path in self._waits.values():
                yield "P3", f"{path} is over and still waits"
            self._forget(f"{path}[")
            del self._containers[path]
        elif not event.handled and "." in path:
            container, number = _item_around(path)
            if container in self._containers:
                self._containers[container].failing.add(number)
        elif not event.handled:
            self._stops = True

    # --- Items ------------------------------------------------------------------------------------

    def _of_items(self, event: _OfItems) -> Found:
        known = self._containers.get(event.step)
        if isinstance(event, runs.ItemsOpened):
            if known is not None:
                yield "P4", f"{event.step} was opened twice"
            self._containers[event.step] = _Container(count=event.count)
        elif known is None:
            yield "P4", f"{type(event).__name__} of {event.step}, which is not under way"
        elif isinstance(event, runs.ItemsPaged):
            yield from self._paged(event, known)
        elif isinstance(event, runs.ItemsBegan):
            yield from self._began(event, known)
        elif isinstance(event, runs.ItemsKept):
            yield from self._kept(event, known)
        else:
            yield from self._item_over(event, known)

    def _paged(self, event: runs.ItemsPaged, known: _Container) -> Found:
        size = len(self._page(known, known.pages))
        items = self._values.read(event.items)
        if not size or (items is not UNKNOWN and len(items) != size):
            yield "P4", f"page {known.pages} of {event.step} has not {size} items"
        known.pages += 1

    def _began(self, event: runs.ItemsBegan, known: _Container) -> Found:
        behind = event.first + event.count
        if event.first != known.begun:
            yield "P4", f"item {event.first} of {event.step} began, and {known.begun} had begun before"
        if known.count is not None and (behind > known.count or known.pages * ITEMS_PER_PAGE < known.count):
            yield "P4", f"item {behind - 1} of {event.step} began, which is not there"
        known.begun = max(known.begun, behind)
        known.open |= set(range(event.first, behind))
        config = self._config(event.step)
        most = 1 if known.count is None else config.get("at_once", AT_ONCE)
        if config is not _NO_PLAN and len(known.open) > most:
            yield "P4", f"{len(known.open)} items of {event.step} are under way, at most may be {most}"
        rounds = config.get("most_rounds", ROUNDS)
        if config is not _NO_PLAN and known.count is None and known.begun > rounds:
            yield "P3", f"{event.step} has round {known.begun}, at most may be {rounds}"

    def _item_over(self, event: runs.ItemDone | runs.ItemFailed, known: _Container) -> Found:
        item = f"{event.step}[{event.item}]"
        if event.item not in known.open:
            yield "P4", f"{item} is over, and was not under way"
        if (event.item in known.failing) != isinstance(event, runs.ItemFailed):
            yield "P3", f"{item} is over by {type(event).__name__}, although that is not what happened"
        if isinstance(event, runs.ItemFailed) and not self._goes_on(event.step):
            yield "P3", f"{item} failed, and {event.step} goes on without it"
        yield from self._nothing_goes_on(f"{item}.", item)
        if isinstance(event, runs.ItemDone):
            yield from self._all_done(event, item)
            leaf = self._outputs.get(f"{item}.{event.leaf}", NULL)
            known.came[event.item] = leaf if event.leaf is not None else event.output or NULL
        else:
            known.came[event.item] = event.error
        known.open.discard(event.item)
        known.failing.discard(event.item)
        self._forget(f"{item}.")

    def _all_done(self, event: runs.ItemDone, item: str) -> Found:
        """Every node inside was done or passed by."""
        container = _node(event.step)
        nodes = self._nodes.values()
        inside = [node.id for node in nodes if node.inside == container and not node.undoes]
        missing = [node for node in inside if f"{item}.{node}" not in self._settled]
        if missing:
            yield "P3", f"{item} is done, and its {', '.join(missing)} not"

    def _kept(self, event: runs.ItemsKept, known: _Container) -> Found:
        numbers = self._page(known, event.page)
        missing = [number for number in numbers if number not in known.came]
        if event.page in known.kept or missing:
            yield "P4", f"page {event.page} of {event.step} was kept without {missing}, or twice"
            return
        known.kept.add(event.page)
        yield from self._values.in_order(
            event.results, {number: known.came[number] for number in numbers}, event.step
        )

    def _over(self, path: StepPath) -> Found:
        """A container ended well: every item is over, and what came of them is its output."""
        known = self._containers.pop(path)
        came = known.came
        if known.open or (known.count is not None and len(came) != known.count):
            yield (
                "P3",
                f"{path} is done with {len(came)} items over of {known.count}, open: {sorted(known.open)}",
            )
        elif known.count is not None:
            yield from self._values.in_order(self._outputs.get(path, NULL), came, path)
        elif came and not self._values.same(
            self._values.read(self._outputs.get(path, NULL)), came[max(came)]
        ):
            yield "P4", f"{path} does not give what its last round gave"

    def _nothing_goes_on(self, beginning: str, what: str) -> Found:
        """Whatever was under way in there has been said to be over."""
        inside = sorted(path for path in self._under_way if path.startswith(beginning))
        if inside:
            yield "P5", f"{what} is over while attempts are under way: {inside}"
        waits = sorted(wait for wait, step in self._waits.items() if step.startswith(beginning))
        if waits:
            yield "P3", f"{what} is over and still waits: {waits}"
        steps = sorted(path for path in self._unsettled - set(inside) if path.startswith(beginning))
        if steps:
            yield "P3", f"{what} is over, and nothing is said of {steps}"

    def _forget(self, beginning: str) -> None:
        """What lies in an item that is over is over with it."""
        for known in (self._under_way, self._unsettled, self._settled, self._succeeded):
            known -= {path for path in known if path.startswith(beginning)}
        for path in [path for path in self._containers if path.startswith(beginning)]:
            del self._containers[path]

    # --- What is known of them --------------------------------------------------------------------

    def _page(self, known: _Container, page: int) -> range:
        return range(page * ITEMS_PER_PAGE, min((page + 1) * ITEMS_PER_PAGE, known.count or 0))

    def _config(self, container: StepPath) -> Mapping[str, Any]:
        node = self._nodes.get(_node(container))
        return node.config if node is not None else _NO_PLAN

    def _goes_on(self, container: StepPath) -> bool:
        """Whether a container goes on without what failed. Without its plan nobody can tell: nothing is found."""
        config = self._config(container)
        return config is _NO_PLAN or config.get("on_item_error") == "continue"


_NO_PLAN: Final[Mapping[str, Any]] = {}


def _node(path: StepPath) -> NodeId:
    return path.rpartition(".")[2]


def _item_around(path: StepPath) -> tuple[StepPath, int]:
    """The innermost container around a step, and the item in it: `a[1].b[2].c` lies in item 2 of `a[1].b`."""
    container, _, number = path.rpartition(".")[0].rpartition("[")
    return container, int(number[:-1])
