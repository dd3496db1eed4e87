"""The life of a run, decided. This page is the door: whoever needs the state machine imports it from here.

Theory of operation
-------------------

A history is a sequence of commits. In each commit stand **facts** (what the run learnt) and behind each fact its
**consequences** (what follows from what the run knows). Three functions, all pure, make and read it:

* `accept(run, graph, message, at)` says which facts a message brings. Only news becomes a fact.
* `evolve(run, event, at)` folds one event, fact or consequence, into the state. It never refuses.
* `decide(run, graph, fact, at, evaluate)` says what follows, once the fact is folded in.

The shell's whole work for one message is therefore::

    for fact in accept(run, graph, message, at):
        run = evolve(run, fact, at)
        for decision in decide(run, graph, fact, at, evaluate):
            run = evolve(run, decision, at)

(`decided` gives the run behind the decisions as well: whoever makes one folds it in before the next.)

Rule 1: **the state says what to do, a message or a fact only where to look.** A fact that ends an attempt or a wait
leaves *news* at its step; deciding on the news takes it away. So everything may be said twice: the second time there
is no news, nothing is ready that has not begun, and nothing follows.

Rule 2: **no clock, no I/O, no chance.** `at` is the time of the commit. Expressions are evaluated by an argument; their
results stand in the events (a configuration in `attempt.scheduled`, an output and the ports taken in `step.succeeded`,
a moment in `wait.opened`), so replay needs no expression at all. Jitter is a function of run, step and attempt. What an
evaluation needs and does not have (a stored value, an answer of the process for costly expressions) it raises for, as
`NotReady`: nothing was decided, the shell gets it and asks again.

Rule 3: **a step is named by its path**, an attempt by path and number, a wait by its name. Attempt numbers grow through
every opening of the run; the idempotency key `run/step` is the same for all of them.

How a run goes on
-----------------

An edge is *open* while its source is not done, *taken* when the source took its port, else *dead*. A step whose edges
allow it begins (`readiness`); one that no edge can reach any more is skipped. All of this happens in topological order
in the same commit, control nodes included, so a run of light nodes is one commit. A step whose failure is final takes
its port `error` alone when an edge leaves by it; otherwise the run fails. A run is completed when nothing is under way,
nothing waits and nothing is in doubt.

Maps and loops
--------------

A container's nodes are done once for each of its items, as if each were a small run: an item in which nothing is under way is
over. Its steps are paths like `each[3].fetch`; `orchestrator/containers.py` says when an item is over, what closes one and
which begin next. Only items that are not over are remembered step by step; results are kept by the page. A turn that would
say too much ends with a wait of kind `turn`, and goes on in the next commit.

How a run stops
---------------

A cancellation, an unhandled failure or the deadline: waits are dropped, steps that have not begun are cancelled. With no
attempt under way the run ends in the same commit. Otherwise `run.stopping` is said, executors are told to let go, and
a wait of kind `grace` is opened; the run ends when every attempt has said how it ended, or with the grace. What an
attempt may have done to the world is listed in the terminal event, `unfinished`.

What undoes a step is said when that has succeeded (`undo.kept`) and kept in the order of the successes. Where a failed or
cancelled run would end and some are kept, `run.compensating` is said in place of the end; then one undo is made after the
other, the newest first (`orchestrator/undoing.py`), and the end stands behind the last. One that is over is kept no
longer, so none is made twice; a run that was undone is not reopened.

A failed or cancelled run can be reopened: what failed or was cancelled is pending again, what succeeded stays. A step
that must not be repeated blindly and whose last attempt may have touched the world is in doubt again, not pending.
One terminal event per opening.

A step **in doubt** waits for a person (or for the late outcome of its attempt). A **parked** run records outcomes and
decides nothing; taking it up again looks everywhere once. Cancelling a parked run takes it up to end it.

The transitions are data: `RUN_STATUSES` and `STEP_STATUSES` in `orchestrator/state.py`.
"""

from orchestrator.acceptance import RULES, accept
from orchestrator.commands import Refusal
from orchestrator.decisions import Decided, decide, decided
from orchestrator.evaluate import Evaluate
from orchestrator.evolution import evolve
from orchestrator.readiness import Graph
from orchestrator.state import RUN_STATUSES, STEP_STATUSES, Phase, Run, Step
from orchestrator.waiting import Outstanding, WaitingFor, outstanding, waiting_for

__all__ = [
    "Decided",
    "Evaluate",
    "Graph",
    "Outstanding",
    "Phase",
    "RULES",
    "RUN_STATUSES",
    "Refusal",
    "Run",
    "STEP_STATUSES",
    "Step",
    "WaitingFor",
    "accept",
    "decide",
    "decided",
    "evolve",
    "outstanding",
    "waiting_for",
]
