"""Expressions: CEL over what a run knows, in the fields of its nodes.

    language = Language()                                                  # one per process
    compiled = compile_config(node.config, language, node=node.id, form=Form(conditions=…, literal=…), scope=Scope(nodes=…))
    compiled.faults, compiled.reads                                        # when a workflow is compiled
    context = Context.from_roots(trigger=raw, steps={"fetch": Settled(output=raw)}, run=…, vars=…)
    compiled.evaluate(context, answers)                                    # when a run is decided

Pure: no clock, no chance, no I/O but the time zones of a pinned package. What may take too long raises `Apart` with jobs; the shell has them answered by
`worker.WorkerProcess` and asks again with the answers.
"""

from chassis.expressions.config import Form, compile_condition, compile_config, compile_template
from chassis.expressions.faults import ExpressionError, ExpressionFault, Position
from chassis.expressions.functions import FUNCTIONS, FunctionDoc
from chassis.expressions.jobs import NO_ANSWERS, Answer, Answers, Apart, Done, Job, Undone, Worker
from chassis.expressions.language import Language
from chassis.expressions.parts import CompiledConfig
from chassis.expressions.references import Reads, Scope
from chassis.expressions.values import MISSING, Context, Settled, Value

__all__ = [
    "FUNCTIONS",
    "MISSING",
    "NO_ANSWERS",
    "Answer",
    "Answers",
    "Apart",
    "CompiledConfig",
    "Context",
    "Done",
    "ExpressionError",
    "ExpressionFault",
    "Form",
    "FunctionDoc",
    "Job",
    "Language",
    "Position",
    "Reads",
    "Scope",
    "Settled",
    "Undone",
    "Value",
    "Worker",
    "compile_condition",
    "compile_config",
    "compile_template",
]
