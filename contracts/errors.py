"""The table of public error codes, and the shape in which a failure is told."""

from typing import Annotated, Final

from msgspec import Meta, Struct

from contracts.limits import HttpStatus, NodeId


class Failure(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Why something did not work, in words for people and a code for programs."""

    code: Annotated[str, Meta(max_length=64)]
    message: Annotated[str, Meta(max_length=2_000)]
    retryable: bool = False
    node: NodeId | None = None
    field: Annotated[str, Meta(max_length=1_000)] | None = None
    """A JSON pointer into the node's configuration."""
    position: Annotated[int, Meta(ge=0, le=100_000)] | None = None
    """Where in the field's text, counted in characters."""
    status: HttpStatus | None = None


class ErrorCode(Struct, frozen=True):
    """One row of the table: what the code means and which HTTP status carries it at the API."""

    code: str
    status: HttpStatus
    meaning: str


_ROWS: Final = (
    # The edge
    ErrorCode(
        "malformed", 400, "The request is not what its content type says, or has a field of the wrong shape."
    ),
    ErrorCode("unauthenticated", 401, "No valid API key came with the request."),
    ErrorCode("forbidden", 403, "The API key lacks the scope that this route asks for."),
    ErrorCode("not_found", 404, "There is nothing under this address, or it belongs to somebody else."),
    ErrorCode("method_not_allowed", 405, "This address does not take that method."),
    ErrorCode("conflict", 409, "The thing changed meanwhile, or its state does not allow this."),
    ErrorCode("too_large", 413, "The body is larger than the limit."),
    ErrorCode("unsupported_media_type", 415, "The content type is not one that this route reads."),
    ErrorCode(
        "api.bad_document", 422, "No node types can be made of this document; each reason has its place."
    ),
    ErrorCode("idempotency_mismatch", 422, "The same Idempotency-Key came with another body."),
    ErrorCode("invalid_workflow", 422, "The workflow has faults; each is listed with its JSON pointer."),
    ErrorCode("rate_limited", 429, "Too many requests; Retry-After says when to come again."),
    ErrorCode(
        "held.too_many",
        429,
        "So much of this org waits already that nothing more is begun; Retry-After says when to come again.",
    ),
    ErrorCode("headers_too_large", 431, "The header section is larger than the limit."),
    ErrorCode("slow_request", 408, "The request did not arrive in time."),
    ErrorCode("internal", 500, "A defect of ours; the trace id finds it in the log."),
    ErrorCode("unavailable", 503, "A part of the system is away; nothing was accepted; come again."),
    ErrorCode(
        "overloaded",
        503,
        "More comes in than can be handled; nothing was accepted; Retry-After says when to come again.",
    ),
    ErrorCode("respond_timeout", 504, "The run goes on, but its answer did not come in time."),
    # Webhooks
    ErrorCode(
        "bad_signature",
        401,
        "The delivery's signature, token or password is wrong or its time is too far off.",
    ),
    # Schedules
    ErrorCode(
        "schedule.unusable", 422, "The schedule cannot be kept: a field, a date or the time zone is wrong."
    ),
    # Workers outside
    ErrorCode("worker.bad_types", 422, "The pool cannot offer these node types; each reason has its place."),
    ErrorCode("worker.not_announced", 409, "The pool's workers have announced no node types yet."),
    ErrorCode("worker.failed", 502, "The worker outside said that the attempt failed."),
    # What else starts runs
    ErrorCode("trigger.unusable", 422, "The trigger cannot work: a type of events or its filter is wrong."),
    # Compiling a workflow
    ErrorCode("workflow.limit", 422, "More nodes, edges or bytes than a workflow may have."),
    ErrorCode("workflow.no_nodes", 422, "A workflow needs at least one node."),
    ErrorCode("workflow.duplicate_node", 422, "Two nodes share one id."),
    ErrorCode("workflow.unknown_node_type", 422, "No executor announced this node type."),
    ErrorCode("workflow.dangling_edge", 422, "An edge begins or ends at a node that does not exist."),
    ErrorCode(
        "workflow.unknown_port", 422, "An edge leaves or enters by a port that the node does not have."
    ),
    ErrorCode("workflow.duplicate_edge", 422, "The same edge stands twice."),
    ErrorCode("workflow.cycle", 422, "The edges form a circle."),
    ErrorCode(
        "workflow.bad_inside",
        422,
        "A node lies inside of something that holds no nodes, or an edge leaves a map or loop.",
    ),
    ErrorCode("workflow.unreachable", 422, "No path leads from a start node to this node."),
    ErrorCode("workflow.bad_config", 422, "The node's configuration does not fit its JSON Schema."),
    ErrorCode(
        "workflow.bad_expression",
        422,
        "An expression does not compile or refers to something that is not there.",
    ),
    ErrorCode("workflow.bad_retry", 422, "The retry policy is out of bounds."),
    ErrorCode("workflow.bad_undo", 422, "What stands under `compensate` cannot undo this node."),
    # Trying a workflow out
    ErrorCode(
        "test.unfit", 422, "The test does not fit the workflow; each reason is listed with its JSON pointer."
    ),
    ErrorCode("test.unknown_node", 422, "The test names a node that is not there, or that no test can name."),
    ErrorCode("test.unpinned", 422, "A node comes before what is tested, and nothing says what came of it."),
    ErrorCode("test.bad_pin", 422, "A pin is not something that can come of its node."),
    ErrorCode("test.bad_condition", 422, "A condition of a case does not compile."),
    # Steps and runs
    ErrorCode("expression", 422, "An expression failed while the run evaluated it."),
    ErrorCode(
        "undo.too_many",
        422,
        "The run has done so much that can be undone that nothing more of the kind is begun.",
    ),
    ErrorCode("attempt.timeout", 504, "The attempt did not end in time."),
    ErrorCode("attempt.crashed", 500, "The node's code raised something that it did not declare."),
    ErrorCode("code.failed", 422, "The code of a code node raised an error, or asked for the step to fail."),
    ErrorCode("code.limit", 422, "The code of a code node took more time, memory or room than it may."),
    ErrorCode("code.sandbox", 500, "The process in which the code of a code node ran has died."),
    ErrorCode("code.no_engine", 503, "The engine that runs such code could not be made on this machine."),
    ErrorCode("attempt.cancelled", 409, "The attempt was cancelled."),
    ErrorCode("unreachable", 502, "The other side did not answer."),
    ErrorCode("refused", 502, "The other side answered, and the answer is no."),
    ErrorCode("egress.forbidden", 403, "The address is not one that this instance lets workflows reach."),
    ErrorCode("secret.missing", 422, "The secret does not exist or cannot be opened."),
    ErrorCode("secret.not_allowed", 403, "The secret is bound to other hosts than the one that was called."),
    ErrorCode("payload.missing", 500, "A stored value is no longer in the object store."),
    ErrorCode("payload.too_large", 413, "A value is larger than the limit."),
    ErrorCode(
        "in_doubt.abandoned", 409, "Nobody can say whether the effect happened, and the run was stopped."
    ),
    ErrorCode("run.deadline", 504, "The run did not end in time."),
    ErrorCode(
        "run.no_plan",
        409,
        "The run's plan is not in the store: its trigger or version was gone when it started.",
    ),
    ErrorCode("run.not_reopenable", 409, "Only a run that failed or was cancelled can be tried again."),
    ErrorCode("run.ended", 409, "The run has ended."),
    ErrorCode(
        "run.parked",
        409,
        "No code here can handle the run's next message; it waits for a release or a person.",
    ),
    ErrorCode("step.not_in_doubt", 409, "The step is not in doubt."),
    ErrorCode(
        "loop.exhausted", 422, "The loop's condition did not hold after as many rounds as it may have."
    ),
    ErrorCode("child.failed", 502, "The run that the step started and waited for failed."),
    ErrorCode("child.cancelled", 409, "The run that the step started and waited for was cancelled."),
    ErrorCode("child.timeout", 504, "The run that the step started did not end in time."),
    ErrorCode(
        "child.no_workflow", 404, "The workflow that the step starts does not exist, or has been deleted."
    ),
    ErrorCode(
        "child.not_published", 409, "The version of the workflow that the step starts is not published."
    ),
    ErrorCode("child.gone", 500, "Nothing is left of the run that the step waited for."),
    ErrorCode("flow.full", 429, "So many runs wait at a gate of the workflow that nobody else may."),
    ErrorCode(
        "cause.too_deep", 409, "Runs have started one another too often: the workflows of the loop are named."
    ),
    ErrorCode("signal.not_sealed", 409, "What the run marks of a signal was not sealed where it came in."),
    ErrorCode("signal.too_many", 409, "Too much was said to the run that nothing has waited for."),
    ErrorCode("wait.not_open", 409, "The run does not wait for this yet."),
    ErrorCode(
        "wait.over",
        409,
        "The run does not wait for this any more: it was answered, dropped, or its time is over.",
    ),
    ErrorCode("approval.not_yours", 403, "Others were asked to decide."),
    ErrorCode(
        "approval.bad_fields", 422, "What was filled in does not fit the form; each reason has its place."
    ),
    ErrorCode("stopped", 409, "The workflow stopped on purpose."),
    ErrorCode("poison", 500, "A message that no code could handle; it lies in the dead letters."),
)

ERRORS: Final = {row.code: row for row in _ROWS}
