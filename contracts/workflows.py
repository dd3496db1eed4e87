"""A workflow as its builder drew it, and the facts of its life."""

from typing import Annotated, Any, Final, Literal, TypeAlias

from msgspec import Meta, Struct, field, structs

from contracts.apis import OrgApiImported, OrgApiRemoved
from contracts.cases import CaseName
from contracts.gates import ALL_RUNS, FlowLimit, LimitName, OrgLimit
from contracts.limits import (
    CEL_SOURCE_BYTES,
    EDGES,
    FLOW_LIMITS,
    NODES,
    ORG_LIMITS,
    RETRIES,
    RETRY_SECONDS,
    RUN_SECONDS,
    Id,
    Marks,
    Name,
    NodeId,
    NodeType,
    PortName,
    Positive,
    Priority,
    SchemaVersion,
    Sha256,
    Text,
)
from contracts.payloads import Payload
from contracts.workers import OrgWorkersAnnounced

OnError: TypeAlias = Literal["fail", "continue"]
"""`fail`: so does what is around the node. `continue`: what follows begins all the same, and is given the error."""


class Retry(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """How often and how patiently a failed attempt is made again."""

    attempts: Annotated[int, Meta(ge=1, le=RETRIES)] = 1
    """Attempts in all, the first one included."""
    first_pause_s: Annotated[float, Meta(ge=0, le=RETRY_SECONDS)] = 1.0
    factor: Annotated[float, Meta(ge=1, le=10)] = 2.0
    longest_pause_s: Annotated[float, Meta(ge=0, le=RETRY_SECONDS)] = 300.0
    jitter: Annotated[float, Meta(ge=0, le=1)] = 0.2
    """The share of the pause that varies; a function of run, step and attempt, never of chance."""


class Node(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A box on the canvas."""

    id: NodeId
    type: NodeType
    type_version: Positive | None = None
    name: Name | None = None
    config: dict[str, Any] = field(default_factory=dict)
    inside: NodeId | None = None
    """The map or loop in which it lies: it is done once for each item."""
    retry: Retry | None = None
    on_error: OnError = "fail"
    """What a failure does that no error path takes."""
    compensate: NodeId | None = None
    """The node that undoes this one, when it had succeeded and its run fails or is cancelled. No edge leads to it."""
    timeout_s: Annotated[float, Meta(gt=0, le=RUN_SECONDS)] | None = None
    pool: Annotated[str, Meta(max_length=32)] | None = None
    sensitive: Marks | None = None
    """Places in its output that are sealed before anything is kept of it; without them, those that its type names."""
    position: tuple[float, float] | None = None
    notes: Text | None = None


class Edge(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """An arrow. Port `error` carries a node's failure to its error path."""

    source: NodeId
    target: NodeId
    port: PortName = "main"
    into: PortName = "main"


PRIORITY: Final = 5
"""Where nothing is said."""


class Flow(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """How its runs share what there is with others."""

    priority: Priority | Annotated[str, Meta(min_length=1, max_length=CEL_SOURCE_BYTES)] = PRIORITY
    """Of those of one org that wait for the same pool, or at the same gate, the higher goes first. A text is a CEL
    expression, by which each run has its own."""
    limits: Annotated[tuple[FlowLimit, ...], Meta(max_length=FLOW_LIMITS)] = ()
    """The gates that a run passes, one behind the other, before its first step."""


class Workflow(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What the builder saves: a directed graph without circles."""

    nodes: Annotated[tuple[Node, ...], Meta(max_length=NODES)]
    edges: Annotated[tuple[Edge, ...], Meta(max_length=EDGES)] = ()
    vars: dict[str, Any] = field(default_factory=dict)
    timeout_s: Annotated[float, Meta(gt=0, le=RUN_SECONDS)] | None = None
    flow: Flow | None = None
    on_failure: Id | None = None
    """The workflow of which a run begins whenever a run of this one has failed."""
    sensitive: Marks = ()
    """Places in `trigger.body` that are sealed before anything is kept of it, in runs that somebody starts: by the API, the
    command line, or as a test. What triggers bring is marked at the trigger."""
    notes: Text | None = None


class Fault(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One thing that is wrong with a workflow, and where."""

    code: str
    pointer: str
    """JSON pointer into the workflow."""
    message: str
    node: str | None = None
    position: int | None = None


class _WorkflowFact(Struct, frozen=True, kw_only=True, tag_field="type"):
    schema_version: SchemaVersion = 1


class WorkflowCreated(_WorkflowFact, frozen=True, kw_only=True, tag="workflow.created"):
    """The workflow exists and has a name."""

    name: Name


class WorkflowRenamed(_WorkflowFact, frozen=True, kw_only=True, tag="workflow.renamed"):
    name: Name


class VersionDrafted(_WorkflowFact, frozen=True, kw_only=True, tag="workflow.version-drafted"):
    """A new, immutable version was saved. It may still have faults."""

    version: Positive
    definition: Payload
    """A `Workflow` as JSON."""


class VersionPublished(_WorkflowFact, frozen=True, kw_only=True, tag="workflow.version-published"):
    """The version compiled; runs that start from now on follow this plan."""

    version: Positive
    plan: Sha256
    sensitive: Marks = ()
    """What the version marks of what somebody starts it with."""


class CaseKept(_WorkflowFact, frozen=True, kw_only=True, tag="workflow.case-kept"):
    """The workflow has a test case of this name, or another one from now on. A revision never changes."""

    name: CaseName
    revision: Positive
    """Counted over all cases of the workflow."""
    case: Payload
    """A `Case` as JSON."""
    run: Id | None = None
    """The run of which it was made."""


class CaseRemoved(_WorkflowFact, frozen=True, kw_only=True, tag="workflow.case-removed"):
    """There is no such case any more; its revisions stay in the history."""

    name: CaseName


class WorkflowDeleted(_WorkflowFact, frozen=True, kw_only=True, tag="workflow.deleted"):
    """No run starts any more; the history stays."""


WorkflowEvent: TypeAlias = (
    WorkflowCreated
    | WorkflowRenamed
    | VersionDrafted
    | VersionPublished
    | CaseKept
    | CaseRemoved
    | WorkflowDeleted
)


class OrgVarsSet(Struct, frozen=True, kw_only=True, tag_field="type", tag="org.vars-set"):
    """The variables that every workflow of the org may read; resolved when a run starts."""

    schema_version: SchemaVersion = 1
    vars: dict[str, Any]


class OrgCreated(Struct, frozen=True, kw_only=True, tag_field="type", tag="org.created"):
    schema_version: SchemaVersion = 1
    name: Name


class OrgLimitsSet(Struct, frozen=True, kw_only=True, tag_field="type", tag="org.limits-set"):
    """What the gates that workflows share let in, by the limit's name, and that of all runs; all of them."""

    schema_version: SchemaVersion = 1
    limits: Annotated[dict[LimitName, OrgLimit], Meta(max_length=ORG_LIMITS)]


OrgEvent: TypeAlias = (
    OrgCreated | OrgVarsSet | OrgLimitsSet | OrgApiImported | OrgApiRemoved | OrgWorkersAnnounced
)


class OrgSays(Struct, frozen=True, kw_only=True):
    """What an org says of all its runs, for whoever starts one: the run keeps it for its whole life."""

    vars: dict[str, Any] = field(default_factory=dict)
    limit: OrgLimit | None = None


def said(before: OrgSays, event: OrgEvent) -> OrgSays:
    """The same after one more fact of the org."""
    match event:
        case OrgVarsSet():
            return structs.replace(before, vars=event.vars)
        case OrgLimitsSet():
            return structs.replace(before, limit=event.limits.get(ALL_RUNS))
        case _:
            return before


class SecretStored(Struct, frozen=True, kw_only=True, tag_field="type", tag="secret.stored"):
    """A secret has a value. The value itself is sealed in the vault, never here."""

    schema_version: SchemaVersion = 1
    name: Name
    kind: Annotated[str, Meta(max_length=32)]
    allowed_hosts: tuple[str, ...] = ()


class SecretDeleted(Struct, frozen=True, kw_only=True, tag_field="type", tag="secret.deleted"):
    schema_version: SchemaVersion = 1


SecretEvent: TypeAlias = SecretStored | SecretDeleted


class KeyIssued(Struct, frozen=True, kw_only=True, tag_field="type", tag="key.issued"):
    """An API key exists; only its hash is kept, in the vault."""

    schema_version: SchemaVersion = 1
    name: Name
    scopes: tuple[str, ...]


class KeyRevoked(Struct, frozen=True, kw_only=True, tag_field="type", tag="key.revoked"):
    schema_version: SchemaVersion = 1


KeyEvent: TypeAlias = KeyIssued | KeyRevoked

Draft: TypeAlias = Literal["draft", "published"]
WorkflowId: TypeAlias = Id
