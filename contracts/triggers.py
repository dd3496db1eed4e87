"""What starts runs: webhook settings, the facts of a trigger's life, and deliveries that started no run."""

from typing import Annotated, Any, Literal, TypeAlias

from msgspec import Meta, Struct, field

from contracts.forms import Questions
from contracts.limits import (
    CEL_SOURCE_BYTES,
    CHAT_CHARS,
    DEDUPE_KEY_BYTES,
    EVENT_TYPES,
    RESPOND_SECONDS,
    UPLOAD_BODY_BYTES,
    WATCHED_WORKFLOWS,
    WEBHOOK_BODY_BYTES,
    WEBHOOKS_PER_MINUTE,
    Count,
    Id,
    Marks,
    Name,
    OrgId,
    Positive,
    SchemaVersion,
    Sha256,
    Text,
)
from contracts.payloads import Payload, null
from contracts.schedules import Schedule


class NoAuthentication(Struct, frozen=True, kw_only=True, tag_field="scheme", tag="none"):
    """The token in the address is the only proof."""


class Basic(Struct, frozen=True, kw_only=True, tag_field="scheme", tag="basic"):
    secret: Id
    """A secret of kind `basic`."""


class HeaderToken(Struct, frozen=True, kw_only=True, tag_field="scheme", tag="header_token"):
    header: Annotated[str, Meta(pattern=r"^[A-Za-z0-9-]{1,64}$")]
    secret: Id


class Hmac(Struct, frozen=True, kw_only=True, omit_defaults=True, tag_field="scheme", tag="hmac"):
    """A keyed hash of the body (or of timestamp and body) in a header."""

    header: Annotated[str, Meta(pattern=r"^[A-Za-z0-9-]{1,64}$")]
    secret: Id
    algorithm: Literal["sha256", "sha1", "sha512"] = "sha256"
    encoding: Literal["hex", "base64"] = "hex"
    prefix: Annotated[str, Meta(max_length=32)] = ""
    timestamp_header: Annotated[str, Meta(pattern=r"^[A-Za-z0-9-]{1,64}$")] | None = None
    """When set, the signed bytes are `<timestamp>.<body>` and the time may be off by 5 minutes at the most."""


class StandardWebhooks(Struct, frozen=True, kw_only=True, tag_field="scheme", tag="standard_webhooks"):
    secret: Id


class Github(Struct, frozen=True, kw_only=True, tag_field="scheme", tag="github"):
    secret: Id


class Stripe(Struct, frozen=True, kw_only=True, tag_field="scheme", tag="stripe"):
    secret: Id


class Slack(Struct, frozen=True, kw_only=True, tag_field="scheme", tag="slack"):
    secret: Id


Authentication: TypeAlias = (
    NoAuthentication | Basic | HeaderToken | Hmac | StandardWebhooks | Github | Stripe | Slack
)


class NoDedupe(Struct, frozen=True, kw_only=True, tag_field="by", tag="none"):
    """Every delivery starts a run."""


class Preset(Struct, frozen=True, kw_only=True, tag_field="by", tag="preset"):
    """The key that the sender documents: GitHub's delivery id, Slack's event id, Stripe's id, `webhook-id`."""

    preset: Literal["github", "slack", "stripe", "standard_webhooks", "idempotency_key"]


class HeaderKey(Struct, frozen=True, kw_only=True, tag_field="by", tag="header"):
    header: Annotated[str, Meta(pattern=r"^[A-Za-z0-9-]{1,64}$")]


class ExpressionKey(Struct, frozen=True, kw_only=True, tag_field="by", tag="expression"):
    """A CEL expression over `trigger` that gives a string or a number."""

    expression: Annotated[str, Meta(min_length=1, max_length=4096)]


Dedupe: TypeAlias = NoDedupe | Preset | HeaderKey | ExpressionKey
Method: TypeAlias = Literal["GET", "POST", "PUT", "PATCH", "DELETE"]


class Webhook(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """How an address takes deliveries."""

    methods: Annotated[tuple[Method, ...], Meta(min_length=1, max_length=5)] = ("POST",)
    authentication: Authentication = NoAuthentication()
    dedupe: Dedupe = NoDedupe()
    mode: Literal["accept", "respond"] = "accept"
    respond_timeout_s: Annotated[float, Meta(gt=0, le=RESPOND_SECONDS)] = 30.0
    body_bytes: Annotated[int, Meta(ge=1, le=UPLOAD_BODY_BYTES)] = WEBHOOK_BODY_BYTES
    per_minute: Annotated[int, Meta(ge=1, le=1_000_000)] = WEBHOOKS_PER_MINUTE
    sensitive: Annotated[tuple[Annotated[str, Meta(max_length=500)], ...], Meta(max_length=50)] = ()
    """JSON pointers into the body whose values are sealed before anything is stored; `*` stands for every item."""


# --- What else starts runs, besides an address and the clock ------------------------------------

Filter: TypeAlias = Annotated[str, Meta(max_length=CEL_SOURCE_BYTES)]
"""A CEL expression over `trigger` that says yes or no; empty: always yes."""
Outcome: TypeAlias = Literal["completed", "failed", "cancelled"]


class RunEnd(Struct, frozen=True, kw_only=True, omit_defaults=True, tag_field="kind", tag="run_end"):
    """Another run has ended."""

    workflows: Annotated[tuple[Id, ...], Meta(max_length=WATCHED_WORKFLOWS)] = ()
    """Whose runs; empty: those of every workflow but the trigger's own."""
    outcomes: Annotated[tuple[Outcome, ...], Meta(min_length=1, max_length=3)] = (
        "completed",
        "failed",
        "cancelled",
    )
    filter: Filter = ""


class Happening(Struct, frozen=True, kw_only=True, omit_defaults=True, tag_field="kind", tag="event"):
    """Something of one of these types was recorded in the org."""

    types: Annotated[
        tuple[Annotated[str, Meta(pattern=r"^[a-z]+\.[a-z-]+$", max_length=64)], ...],
        Meta(min_length=1, max_length=EVENT_TYPES),
    ]
    """As the log has them: `step.failed`, `workflow.version-published`."""
    filter: Filter = ""


class Form(Struct, frozen=True, kw_only=True, omit_defaults=True, tag_field="kind", tag="form"):
    """Somebody has filled in a page that we show."""

    title: Name
    description: Annotated[str, Meta(max_length=5_000)] = ""
    questions: Questions
    """A JSON Schema; each property is a field."""
    button: Annotated[str, Meta(min_length=1, max_length=60)] = "Send"
    thanks: Annotated[str, Meta(min_length=1, max_length=2_000)] = "Thank you. It has arrived."
    lang: Annotated[str, Meta(pattern=r"^[a-z]{2,3}(-[A-Za-z0-9]{2,8})?$")] = "en"
    """In which language its texts are."""
    per_minute: Annotated[int, Meta(ge=1, le=100_000)] = 600
    """Answers, from everywhere."""
    per_address: Annotated[int, Meta(ge=1, le=10_000)] = 10
    """Answers a minute, from one address."""
    seconds: Annotated[float, Meta(ge=0, le=60)] = 2.0
    """Whoever is faster than that has not read the page."""
    sensitive: Marks = ()
    """Places in an answer whose values are sealed before anything is stored."""


class Chat(Struct, frozen=True, kw_only=True, omit_defaults=True, tag_field="kind", tag="chat"):
    """Somebody has said something, and waits for what is answered."""

    respond_timeout_s: Annotated[float, Meta(gt=0, le=RESPOND_SECONDS)] = 60.0
    message_chars: Annotated[int, Meta(ge=1, le=CHAT_CHARS)] = 8_000
    per_minute: Annotated[int, Meta(ge=1, le=1_000_000)] = 600
    sensitive: Marks = ()
    """Places in a message, such as `/message`, whose values are sealed before anything is stored."""


class ChatMessage(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What is sent to a chat's address, and what its run sees as `trigger.body`."""

    session: Annotated[str, Meta(pattern=r"^[A-Za-z0-9_-]{1,128}$")]
    """Whose talk it is; the same for every message of it. Chosen by whoever sends, and hard to guess."""
    message: Annotated[str, Meta(min_length=1, max_length=CHAT_CHARS)]
    id: Annotated[str, Meta(pattern=r"^[A-Za-z0-9_-]{1,128}$")] | None = None
    """The same message sent again has the same id: it starts one run, and has one answer."""


class Poll(Struct, frozen=True, kw_only=True, omit_defaults=True, tag_field="kind", tag="poll"):
    """Something new is found where we look for it again and again."""

    schedule: Schedule
    """When to look."""
    request: dict[str, Any]
    """The configuration of an `http.request`; its templates may read `trigger.cursor`."""
    items: Annotated[str, Meta(min_length=1, max_length=CEL_SOURCE_BYTES)]
    """A CEL expression over `steps.fetch.output` that gives the list of what was found."""
    key: Annotated[str, Meta(min_length=1, max_length=CEL_SOURCE_BYTES)]
    """A CEL expression over `entry`, one of them, that gives a text or a whole number: each key starts one run, for ever."""
    cursor: Annotated[str, Meta(max_length=CEL_SOURCE_BYTES)] = ""
    """A CEL expression over `steps.fetch.output` and `trigger.cursor`: where the next look begins. Empty: there is none."""
    sensitive: Marks = ()
    """Places in what was found, such as `/body/orders/*/iban` in what `steps.fetch.output` is, that are sealed before
    anything is kept of it. They stay sealed in the runs that begin."""


Occasion: TypeAlias = RunEnd | Happening | Form | Chat | Poll
Follows: TypeAlias = RunEnd | Happening
"""Those that are found in the log."""


# --- The life of a trigger ----------------------------------------------------------------------


class _TriggerFact(Struct, frozen=True, kw_only=True, tag_field="type"):
    schema_version: SchemaVersion = 1


class TriggerCreated(_TriggerFact, frozen=True, kw_only=True, tag="trigger.created"):
    """An address exists that starts runs of this workflow."""

    name: Name
    workflow: Id
    webhook: Webhook
    token: Sha256
    """Hash of the token in the address."""
    test_token: Sha256


class TriggerChanged(_TriggerFact, frozen=True, kw_only=True, tag="trigger.changed"):
    name: Name
    webhook: Webhook


class ScheduleCreated(_TriggerFact, frozen=True, kw_only=True, tag="trigger.schedule-created"):
    """The clock starts runs of this workflow."""

    name: Name
    workflow: Id
    schedule: Schedule


class ScheduleChanged(_TriggerFact, frozen=True, kw_only=True, tag="trigger.schedule-changed"):
    name: Name
    schedule: Schedule


class OccasionCreated(_TriggerFact, frozen=True, kw_only=True):
    """Something else than an address or the clock starts runs of this workflow. Each kind has a tag of its own."""

    name: Name
    workflow: Id
    on: Occasion


class OccasionChanged(_TriggerFact, frozen=True, kw_only=True):
    name: Name
    on: Occasion


class RunEndCreated(OccasionCreated, frozen=True, kw_only=True, tag="trigger.run-end-created"):
    """The end of other runs starts runs of this workflow."""

    on: RunEnd


class RunEndChanged(OccasionChanged, frozen=True, kw_only=True, tag="trigger.run-end-changed"):
    on: RunEnd


class EventCreated(OccasionCreated, frozen=True, kw_only=True, tag="trigger.event-created"):
    """What is recorded in the org starts runs of this workflow."""

    on: Happening


class EventChanged(OccasionChanged, frozen=True, kw_only=True, tag="trigger.event-changed"):
    on: Happening


class FormCreated(OccasionCreated, frozen=True, kw_only=True, tag="trigger.form-created"):
    """A page exists that starts runs of this workflow."""

    on: Form
    token: Sha256
    test_token: Sha256


class FormChanged(OccasionChanged, frozen=True, kw_only=True, tag="trigger.form-changed"):
    on: Form


class ChatCreated(OccasionCreated, frozen=True, kw_only=True, tag="trigger.chat-created"):
    """An address exists to which people talk."""

    on: Chat
    token: Sha256
    test_token: Sha256


class ChatChanged(OccasionChanged, frozen=True, kw_only=True, tag="trigger.chat-changed"):
    on: Chat


class PollCreated(OccasionCreated, frozen=True, kw_only=True, tag="trigger.poll-created"):
    """What is found somewhere starts runs of this workflow."""

    on: Poll
    plan: Sha256
    """Of the runs that look."""


class PollChanged(OccasionChanged, frozen=True, kw_only=True, tag="trigger.poll-changed"):
    on: Poll
    plan: Sha256


class TokenRotated(_TriggerFact, frozen=True, kw_only=True, tag="trigger.token-rotated"):
    token: Sha256
    test_token: Sha256


class TriggerBound(_TriggerFact, frozen=True, kw_only=True, tag="trigger.bound"):
    """Runs that start from now on follow this plan."""

    version: Positive
    plan: Sha256


class TriggerEnabled(_TriggerFact, frozen=True, kw_only=True, tag="trigger.enabled"):
    pass


class TriggerDisabled(_TriggerFact, frozen=True, kw_only=True, tag="trigger.disabled"):
    pass


class TriggerDeleted(_TriggerFact, frozen=True, kw_only=True, tag="trigger.deleted"):
    pass


TriggerEvent: TypeAlias = (
    TriggerCreated
    | TriggerChanged
    | ScheduleCreated
    | ScheduleChanged
    | RunEndCreated
    | RunEndChanged
    | EventCreated
    | EventChanged
    | FormCreated
    | FormChanged
    | ChatCreated
    | ChatChanged
    | PollCreated
    | PollChanged
    | TokenRotated
    | TriggerBound
    | TriggerEnabled
    | TriggerDisabled
    | TriggerDeleted
)


class Hook(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A delivery that started no run: a duplicate, a refused or unmatched one, a captured sample. Kept in HOOKS."""

    receipt: Id
    org: OrgId
    trigger: Id
    time: float
    result: Literal["duplicate", "refused", "unmatched", "captured"]
    method: Annotated[str, Meta(max_length=16)]
    address: Annotated[str, Meta(max_length=64)] = ""
    run: Id | None = None
    reason: Text = ""
    headers: dict[str, str] = {}
    query: dict[str, str] = {}
    body: Payload = field(default_factory=null)
    size: Count = 0
    key_id: Annotated[str, Meta(max_length=64)] = ""
    """Names the salt under which values of the body are sealed, for a run of the receipt's name; empty: none is."""


DedupeKey: TypeAlias = Annotated[str, Meta(min_length=1, max_length=DEDUPE_KEY_BYTES)]
