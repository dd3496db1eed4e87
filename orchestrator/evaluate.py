"""What a decision asks of expressions and values: computed when a run lives, taken from the record when it is replayed."""

from datetime import datetime
from typing import Protocol

from contracts.errors import Failure
from contracts.gates import FlowLimit, SlotWanted
from contracts.limits import StepPath
from contracts.payloads import Payload
from contracts.plans import PlanNode
from orchestrator.control import Called, Outcome
from orchestrator.paths import ItemPath
from orchestrator.state import Run


class Evaluate(Protocol):
    """What the expressions of a step give in a run as it is now. A `Failure` is the step's, not the caller's."""

    def config(self, run: Run, path: StepPath, node: PlanNode) -> Payload | Failure:
        """An action's configuration with every expression evaluated; secret references stay references."""
        ...

    def control(self, run: Run, path: StepPath, node: PlanNode, at: datetime) -> Outcome | Failure:
        """What a control node does with its input."""
        ...

    def passed_on(self, run: Run, path: StepPath, node: PlanNode) -> Payload | Failure:
        """What a node that only passes on gives to the next one."""
        ...

    def goes_on(self, run: Run, path: StepPath, node: PlanNode) -> bool | Failure:
        """Whether a loop has another round after the last one."""
        ...

    def came_of(self, run: Run, item: ItemPath) -> Payload:
        """What came of an item whose steps are done."""
        ...

    def page(self, run: Run, path: StepPath, page: int) -> Payload:
        """What came of the items of one page."""
        ...

    def gathered(self, run: Run, path: StepPath, node: PlanNode) -> Payload | Failure:
        """What came of all items of a map, in their order."""
        ...

    def handler(self, run: Run, called: Called) -> Called | Failure:
        """The version of its error workflow that a run which fails starts now."""
        ...

    def slot(self, run: Run, limit: FlowLimit) -> SlotWanted | Failure:
        """The gate of a limit that this run has to pass, by its own key."""
        ...

    def priority(self, run: Run) -> int | Failure:
        """How soon this run goes, where an expression of its workflow says it."""
        ...

    def output(self, run: Run) -> Payload:
        """The output of a run whose steps are done."""
        ...
