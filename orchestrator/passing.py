"""How a run passes the gates before its workflow: where it waits, what it asks, and what it says when it has ended. Pure.

A run that begins, or is opened again, passes them one behind the other before any of its steps begins. All runs of an org pass
first what gathers starts, where nobody keeps a place; then the gate of all runs of the org, then those of their workflow, and
then those that workflows of the org share, each by its name: so no two of them wait for each other's.
"""

from collections.abc import Sequence
from typing import Final

from chassis.ids import derived, digest
from contracts.errors import Failure
from contracts.gates import ALL_RUNS, FlowLimit, GateLimit, OrgLimit, SlotWanted, everybodys
from contracts.limits import GATE_KEY_CHARS, PRIORITIES, WaitName
from contracts.messages import AskSlot, FreeSlot, GiveSlot
from contracts.payloads import Inline, Payload
from contracts.plans import Plan
from contracts.runs import TERMINAL, WaitOpened
from contracts.workflows import PRIORITY, Flow
from orchestrator.evaluate import Evaluate
from orchestrator.state import Run

_EVERYBODYS: Final = Flow()
_REFERENCE_BYTES: Final = 300
"""What is stored apart stands in a batch as its reference."""


class _OfAllRuns(FlowLimit, frozen=True, kw_only=True):
    """What the org says of all its runs, as if each workflow had drawn it."""


def gates_of(run: Run, plan: Plan) -> Sequence[FlowLimit]:
    """In the order in which they are passed. Who tries a workflow out takes nobody's place.

    What gathers starts is for starts: not for a run that is opened again, nor for one whose end another run waits for. That one
    goes with the run that waits: it takes no place among all runs of the org.
    """
    if run.mode == "test" or not may_stand(run, plan):
        return ()
    is_awaited = run.parent is not None and run.parent.waits
    limits = [
        limit
        for limit in (plan.flow or _EVERYBODYS).limits
        if not gathers(limit) or (run.opening == 1 and not is_awaited)
    ]
    if run.org_limit is not None and not is_awaited:
        limits.append(_of_all_runs(run.org_limit))
    return sorted(limits, key=_turn)


def may_stand(run: Run, plan: Plan) -> bool:
    """Whether there is any gate before this run."""
    return plan.flow is not None or run.org_limit is not None


def _turn(limit: FlowLimit) -> tuple[bool, bool, bool, str]:
    """Whoever is inside of the gate of all runs wants it no more: nobody who has a place elsewhere waits for one there."""
    return not gathers(limit), not isinstance(limit, _OfAllRuns), limit.across != "workflow", limit.name


def _of_all_runs(said: OrgLimit) -> _OfAllRuns:
    bounds = everybodys(said)
    return _OfAllRuns(name=ALL_RUNS, at_once=bounds.at_once, rate=bounds.rate, queue=bounds.queue)


def gathers(limit: GateLimit) -> bool:
    """Whether of several starts one goes on."""
    return limit.debounce is not None or limit.batch is not None


def next_gate(run: Run, plan: Plan, evaluate: Evaluate) -> WaitOpened | Failure | None:
    """The gate that the run has to pass now; None: it is inside of all of them."""
    gates = gates_of(run, plan)
    if len(run.slots) >= len(gates):
        return None
    limit = gates[len(run.slots)]
    slot = wanted(run, limit, plan, "") if isinstance(limit, _OfAllRuns) else evaluate.slot(run, limit)
    if isinstance(slot, Failure):
        return slot
    return WaitOpened(wait=slot_wait(run), kind="slot", slot=slot)


def slot_wait(run: Run) -> WaitName:
    return f"slot:{run.opening}:{len(run.slots) + 1}"


def at_gate(run: Run) -> bool:
    """Whether it waits to be let in, so that none of its steps may begin."""
    return any(wait.kind == "slot" for wait in run.waits.values())


def wanted(run: Run, limit: FlowLimit, plan: Plan | None, key: str) -> SlotWanted:
    """The gate of this limit, for this key."""
    shown = key if len(key) <= GATE_KEY_CHARS else f"sha256:{digest(key.encode())}"
    return SlotWanted(
        gate=_gate(run.org, _owner(run, limit), limit.name, key),
        name=limit.name,
        key=shown,
        bounds=GateLimit(
            at_once=limit.at_once,
            rate=limit.rate,
            when_full=limit.when_full,
            queue=limit.queue,
            debounce=limit.debounce,
            batch=limit.batch,
        ),
        rank=rank_of(run, plan.flow if plan is not None else None),
    )


def rank_of(run: Run, flow: Flow | None) -> int:
    """The lower, the sooner. Where an expression says it, what that gave is in the run's history."""
    said = (flow or _EVERYBODYS).priority
    priority = said if isinstance(said, int) else PRIORITY
    return PRIORITIES - (priority if run.priority is None else run.priority)


def may_rank(run: Run, plan: Plan) -> bool:
    """Whether an expression says how soon the run goes, and nobody has told yet what it gives. Who tries it out hurries nobody."""
    is_said = plan.flow is not None and isinstance(plan.flow.priority, str)
    return is_said and run.priority is None and run.mode != "test"


def gate_of_all_runs(org: str) -> str:
    """The gate that every run of an org passes, where the org says so."""
    return _gate(org, ALL_RUNS, ALL_RUNS, "")


def _owner(run: Run, limit: FlowLimit) -> str:
    """Those that share a gate gather starts, or bound runs; none does both."""
    if isinstance(limit, _OfAllRuns):
        return ALL_RUNS
    if limit.across == "workflow":
        return run.workflow
    return "debounce" if gathers(limit) else ""


def _gate(org: str, owner: str, name: str, key: str) -> str:
    """`owner`: the workflow; empty: the org."""
    return derived("gate", org, owner, name, key)


def awaited_slot(run: Run, gate: str, opening: int) -> WaitOpened | None:
    """The wait at this gate, if the run stands there in this opening."""
    if not run.active or run.opening != opening:
        return None
    return next((wait for wait in run.waits.values() if wait.slot and wait.slot.gate == gate), None)


def is_inside(run: Run, given: GiveSlot) -> bool:
    """Whether what the gate gave is the run's to keep: it stands there, or is inside and has not ended."""
    if not run.active or run.opening != given.opening:
        return False
    stands = awaited_slot(run, given.gate, given.opening) is not None
    return stands or any(slot.gate == given.gate and stays(slot) for slot in run.slots)


def stays(slot: SlotWanted) -> bool:
    """Whether a run is inside until it ends. Where only a rate counts, it leaves as soon as it has passed."""
    return slot.bounds.at_once is not None


def question(run: Run, wait: WaitOpened, trace: str) -> AskSlot | None:
    """Asks a gate to let the run in. It follows from the history alone, so it is the same however often it is said."""
    if wait.slot is None or run.opened_at is None:
        return None
    return AskSlot(
        org=run.org,
        run=wait.slot.gate,
        trace=trace,
        holder=run.id,
        opening=run.opening,
        since=run.opened_at,
        wanted=wait.slot,
        size=_size_of(run.input) if wait.slot.bounds.batch is not None else 0,
        # Of a key that is too long to be shown nobody can tell: there counts what the workflow says.
        is_shared=wait.slot.gate == _gate(run.org, "", wait.slot.name, wait.slot.key),
    )


def _size_of(started_with: Payload) -> int:
    """What it adds to a batch."""
    return len(started_with.value) if isinstance(started_with, Inline) else _REFERENCE_BYTES


def leaving(run: Run, slot: SlotWanted, trace: str) -> FreeSlot:
    """Tells a gate that the run is inside no longer."""
    return FreeSlot(org=run.org, run=slot.gate, trace=trace, holder=run.id, opening=run.opening)


def left(run: Run) -> Sequence[SlotWanted]:
    """The gates inside of which it is no longer: all when it has ended, else those where nobody stays."""
    has_ended = run.phase in TERMINAL
    return [slot for slot in run.slots if has_ended or not stays(slot)]
