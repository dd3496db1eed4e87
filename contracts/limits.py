"""Every bound of the system, in one table."""

from typing import Annotated, Final, TypeAlias

from msgspec import Meta

KIB: Final = 1024
MIB: Final = 1024 * KIB

# --- The edge: what a stranger may send -------------------------------------------------------
WEBHOOK_BODY_BYTES: Final = 1 * MIB
UPLOAD_BODY_BYTES: Final = 10 * MIB
API_BODY_BYTES: Final = 2 * MIB
HEADER_BYTES: Final = 16 * KIB
HEADER_FIELDS: Final = 100
HEADER_SECONDS: Final = 10.0
BODY_SECONDS: Final = 15.0
IDLE_SECONDS: Final = 30
CONNECTIONS_PER_ADDRESS: Final = 64
CONNECTIONS: Final = 4_096
BODIES_BYTES: Final = 64 * MIB
JSON_DEPTH: Final = 64
JSON_KEYS: Final = 10_000
STRING_BYTES: Final = 1 * MIB
FORM_FIELDS: Final = 1_000
MULTIPART_PARTS: Final = 100
SSE_STREAMS_PER_KEY: Final = 32
SSE_BUFFER_BYTES: Final = 1 * MIB
PAGE_ROWS: Final = 200
IDEMPOTENCY_KEY_CHARS: Final = 255

# --- The log ----------------------------------------------------------------------------------
COMMIT_BYTES: Final = 256 * KIB
INLINE_BYTES: Final = 64 * KIB
BLOB_BYTES: Final = 32 * MIB
PREFETCH_BYTES: Final = 1 * MIB
PAGE_BYTES: Final = 8 * MIB
"""The results of one page of a map's items: each at most inline."""
SEGMENT_EVENTS: Final = 4_000
"""Of one run's history, until it goes on in a new segment that begins with the run's whole state."""
SEGMENT_BYTES: Final = 4 * MIB
EVENTS_PER_COMMIT: Final = 2_000
EVENTS_PER_TURN: Final = 500
"""A container that has caused so many at once goes on in a commit of its own."""
BUNDLE_MESSAGES: Final = 200
BUNDLE_BYTES: Final = 768 * KIB
BATCH_COMMITS: Final = 256
PARTITIONS: Final = 8

# --- Workflows --------------------------------------------------------------------------------
NODES: Final = 500
EDGES: Final = 2_000
WORKFLOW_BYTES: Final = 1 * MIB
VARS: Final = 200
CASES: Final = 100
"""Of one workflow."""
CASE_BYTES: Final = 4 * MIB
"""What the values of one case take together, those in the object store too."""
RECORDED_BYTES: Final = 32 * MIB
"""Of a history of which a test or a case is made."""
EXPECTATIONS: Final = 50
"""Conditions of one case."""
SAMPLES: Final = 10
"""Captured deliveries that are shown at once."""
NAME_CHARS: Final = 200
PORTS_PER_NODE: Final = 64
NESTING: Final = 3
"""Containers in each other: a map in a loop in a map."""
ITEMS: Final = 10_000
"""Of one map, or rounds of one loop."""
ITEMS_PER_PAGE: Final = 100
ITEMS_AT_ONCE: Final = 200
"""Items of one map under way."""
STEPS_AT_ONCE: Final = 500
"""Steps inside of containers that may be under way together: what a commit that stops a run must be able to name."""
LIST_ITEMS: Final = 100_000
"""Items of one list in a data node."""
LIST_RULES: Final = 50
FILE_BYTES: Final = 8 * MIB
"""A file that a data node reads or writes in memory."""
TOKEN_BYTES: Final = 16 * KIB
"""A signed token: what is longer fits into no header."""
TOKEN_SECONDS: Final = 24 * 3600
ARCHIVE_FILES: Final = 1_000
XML_DEPTH: Final = 60
XML_PARTS: Final = 200_000
"""Elements and attributes of one document."""
XML_ATTRIBUTES: Final = 500
"""Of one element."""
DATABASE_ROWS: Final = 10_000
"""Rows of one statement, at most."""
DATABASE_BYTES: Final = 16 * MIB
"""What a database says during one attempt, at most."""
DATABASE_STATEMENTS: Final = 50
"""Statements or commands of one node, at most."""
DATABASE_ARGUMENTS: Final = 1_000
APIS: Final = 50
"""Imported APIs of one org."""
API_VERSIONS: Final = 200
"""Imports of one API."""
API_TYPES_BYTES: Final = 8 * MIB
"""What one import's node types take."""
APIS_BYTES: Final = 16 * MIB
"""And those of all that one org is offered: who asks for the node types gets all of them."""
OPENAPI_BYTES: Final = 4 * MIB
OPENAPI_OPERATIONS: Final = 1_000
OPENAPI_DEPTH: Final = 64
OPENAPI_VALUES: Final = 300_000
"""Values of one document, every repetition of a YAML alias counted."""
OPENAPI_REFERENCES: Final = 16
"""References one behind the other."""
OPENAPI_FORM_PARTS: Final = 1_500
"""Parts of the schemas of one operation's form; what is beyond takes any value."""
OPENAPI_FORM_DEPTH: Final = 10

# --- Attempts ---------------------------------------------------------------------------------
RETRIES: Final = 20
RETRY_SECONDS: Final = 24 * 3600
ATTEMPT_SECONDS: Final = 24 * 3600
ATTEMPT_SECONDS_DEFAULT: Final = 15 * 60
RUN_SECONDS: Final = 366 * 24 * 3600
DELAY_SECONDS: Final = 366 * 24 * 3600
CANCEL_SECONDS: Final = 2.0
CHILDREN_CANCEL_SECONDS: Final = 6.0
"""So long a run that stops waits for the runs that it started and waited for; each of those has its own attempts to wait for."""
SIGNALS_KEPT: Final = 100
"""Of one run, said before anything waited for them."""
SIGNALS_REMEMBERED: Final = 200
"""Keys of one run's signals that were said last, so that each counts once."""
QUESTION_CHARS: Final = 2_000
PERSON_CHARS: Final = 100
"""Of the name that whoever has the link of an approval gives."""
DETAILS_CHARS: Final = 10_000
FORM_PROPERTIES: Final = 50
"""Fields that people fill in when they decide."""
FORM_CHOICES: Final = 100
FORM_BYTES: Final = 32 * KIB
ANSWER_BYTES: Final = 32 * KIB
"""What somebody says when they decide: fields and comment."""
COMMENT_CHARS: Final = 4_000
DECIDERS: Final = 100
SENSITIVE: Final = 50
"""Marked places in the output of one node."""
ANSWERS_PER_MINUTE: Final = 60
"""Calls of one resumption address."""
EARLY_CALL_SECONDS: Final = 5.0
"""How long a call is held that comes before its run waits for it."""
EARLY_CALLS: Final = 200
"""Held at once."""
UNDOS_KEPT: Final = 1_000
"""Undos that one run keeps before it begins nothing more that has one."""
UNDOS_BYTES: Final = 4 * MIB
"""What their configurations may amount to before that."""
UNDOS_SHOWN: Final = 100
"""Steps that could not be undone, named at the end of a run; what is beyond them is counted."""
HANDLERS_REMEMBERED: Final = 20
"""Failures of one run, opened again and again, of which it sees to it that its error workflow is told."""
HEARTBEAT_SECONDS: Final = 0.6
LEASE_SECONDS: Final = 3.0
POOL_LABELS: Final = 16
"""Labels of one executor."""
EXECUTORS_SHOWN: Final = 1_000
"""Executors that are told about, those that were seen last."""

# --- Workers outside --------------------------------------------------------------------------
WORKER_POOLS: Final = 50
"""Pools of workers of one org."""
WORKER_TYPES: Final = 100
"""Node types of one of them."""
WORKER_FORM_BYTES: Final = 64 * KIB
"""The JSON Schema of one type's configuration."""
WORKER_FORM_PARTS: Final = 500
WORKER_FORM_DEPTH: Final = 8
WORKER_LEASE_SECONDS: Final = 30.0
"""A task is a worker's for so long after it was given or kept."""
WORKER_WAIT_SECONDS: Final = 30.0
WORKER_MOST: Final = 32
"""Tasks of one answer."""
WORKER_LEASES: Final = 100
"""Kept by one call."""
WORKER_LEASE_CHARS: Final = 4_096
WORKER_INPUT_BYTES: Final = 8 * MIB
"""The configurations in one answer."""
WORKER_POLLS: Final = 64
"""Calls of one token that wait for work."""
WORKER_POLLS_IN_ALL: Final = 2_000
"""And those of all tokens at one gateway."""
WORKER_CALLS_PER_MINUTE: Final = 6_000
RESPONSE_BYTES: Final = 32 * MIB
DECOMPRESSION_RATIO: Final = 100
REDIRECTS: Final = 5
LOG_LINES: Final = 1_000
"""Log lines of one attempt."""
LOG_BYTES: Final = 256 * KIB
LOG_TEXT_CHARS: Final = 4_000
LOG_FIELDS: Final = 20
LOG_FIELD_CHARS: Final = 500
LOG_RECORD_BYTES: Final = 64 * KIB
"""Lines that are stored together."""
LOG_RUN_LINES: Final = 50_000
"""Log lines of one run, of those that one executor process hears."""
LOG_RUN_BYTES: Final = 16 * MIB
LOG_SCAN_BYTES: Final = 8 * MIB
"""Of log lines, looked at for one page."""
LOG_SEARCH_RECORDS: Final = 5_000
"""Looked at for one page of a search."""
RESPOND_SECONDS: Final = 120

# --- What is held -----------------------------------------------------------------------------
HELD_NAMES: Final = 100_000
"""Attempts that one orchestrator holds by name; what is beyond it, a look brings again."""
HELD_LANES: Final = 1_000
"""Orgs and pools whose numbers one orchestrator tells, those first that hold most."""
PAUSES: Final = 500
"""Of one org, at a time."""
PRIORITIES: Final = 9
GATE_SLOTS: Final = 1_000
"""Runs inside of one gate."""
GATE_QUEUE: Final = 10_000
"""Runs that wait at one gate."""
GATE_SECONDS: Final = 24 * 3600
GATE_KEY_CHARS: Final = 200
"""Of a key as it is shown; a longer one is named by its hash."""
GATE_COMMITS: Final = 100
"""Commits of one gate that stay in the log."""
GATE_NEXT: Final = 20
"""Runs of which a gate records that they are next."""
GATE_NAMES: Final = 100_000
"""Runs that one orchestrator knows to wait at its gates; what is beyond it, a look brings again."""
BATCH_RUNS: Final = 100
"""Starts that one run stands for."""
BATCH_BYTES: Final = 768 * KIB
"""Of what started those; expressions read a little more."""
ORG_LIMITS: Final = 100
"""Gates of an org whose bounds it sets itself."""
FLOW_LIMITS: Final = 4
"""Gates before one workflow."""

# --- Code of users ----------------------------------------------------------------------------
CODE_CHARS: Final = 100_000
CODE_SECONDS: Final = 60.0
"""Processor time of one attempt's code, at most."""
CODE_SECONDS_DEFAULT: Final = 10.0
CODE_MEMORY_MIB: Final = 512
CODE_MEMORY_MIB_DEFAULT: Final = 128
CODE_RESULT_BYTES: Final = 8 * MIB

# --- Expressions ------------------------------------------------------------------------------
CEL_SOURCE_BYTES: Final = 4 * KIB
CEL_PER_WORKFLOW: Final = 2_000
"""Expressions in all nodes of a workflow together."""
CEL_WAIT_SECONDS: Final = 20.0
"""How long an evaluation that is made apart waits for others before it."""
CEL_COMPREHENSIONS: Final = 10
CEL_VALUE_BYTES: Final = 1 * MIB
CEL_SECONDS: Final = 0.020

# --- Triggers ---------------------------------------------------------------------------------
DEDUPE_KEY_BYTES: Final = 512
HOOKS_PER_TRIGGER: Final = 1_000
HOOK_RECORD_BYTES: Final = 128 * KIB
WEBHOOKS_PER_MINUTE: Final = 6_000
API_CALLS_PER_MINUTE: Final = 600
REPLAY_SECONDS: Final = 300
EVENT_TRIGGERS: Final = 100
"""Triggers of one org that follow its events."""
EVENT_TYPES: Final = 20
"""Types of events that one trigger names."""
WATCHED_WORKFLOWS: Final = 50
"""Workflows that one trigger names."""
CAUSES_DEEP: Final = 16
"""Runs behind each other, each started by what the one before did."""
CAUSES_ALIKE: Final = 3
"""Runs of one workflow among those, where what happens in the org starts them."""
CAUSE_HEADER_CHARS: Final = 2 * KIB
"""Of the header that tells our own addresses which run asks: more than `CAUSES_DEEP` workflows need."""
CAUSE_SECONDS: Final = 300.0
"""How long it is believed, by clocks that differ a little."""
FORM_TEXT_CHARS: Final = 10_000
FORM_BODY_BYTES: Final = 256 * KIB
POLL_ITEMS: Final = 500
"""Of one poll."""
POLL_BYTES: Final = 4 * MIB
POLL_SHOWN: Final = 20
"""Items that the test of a poll shows."""
POLL_SHOWN_BYTES: Final = 256 * KIB
POLL_TESTS_AT_ONCE: Final = 16
"""Tests of polls whose answers one gateway waits for."""
"""What one poll selects, at most."""
CHAT_CHARS: Final = 32_000
"""Of one message."""
CHAT_BODY_BYTES: Final = 256 * KIB
FORM_SECONDS: Final = 24 * 3600
"""A page that was opened longer ago is filled in again."""

# --- Schedules --------------------------------------------------------------------------------
CRON_CHARS: Final = 200
ZONE_CHARS: Final = 64
INTERVAL_SECONDS: Final = 366 * 24 * 3600
EXCLUDED_DATES: Final = 400
LATE_SECONDS: Final = 3600
SCHEDULE_BODY_BYTES: Final = 16 * KIB
FIRES_AT_ONCE: Final = 100
"""Runs that one decision about a schedule starts, and the most that make up for missed times."""
MISSED_COUNTED: Final = 1_000
"""Missed times are counted one by one up to here."""
FIRES_KEPT: Final = 1_000
"""Commits of one schedule that stay in the log."""
FIRES_SHOWN: Final = 100
"""Coming times that are told at once."""

# --- The disk of the log, as shares of its quota -----------------------------------------------
DISK_STOPS_UPLOADS: Final = 0.75
DISK_STOPS_STARTS: Final = 0.85
DISK_STOPS_OUTPUTS: Final = 0.95

# --- What a process may hold in memory; where a container is given less, it is stopped ----------
INGRESS_MEMORY_BYTES: Final = 512 * MIB
ORCHESTRATOR_MEMORY_BYTES: Final = 1024 * MIB
EXECUTOR_MEMORY_BYTES: Final = 1024 * MIB
PROJECTIONS_MEMORY_BYTES: Final = 1024 * MIB
GATEWAY_MEMORY_BYTES: Final = 512 * MIB
NATS_MEMORY_BYTES: Final = 1024 * MIB
POSTGRES_MEMORY_BYTES: Final = 1024 * MIB
REDIS_MEMORY_BYTES: Final = 128 * MIB
MAIL_MEMORY_BYTES: Final = 128 * MIB

# --- Numbers and names in messages -------------------------------------------------------------
MAX_INTEGER: Final = 2**53 - 1

Count: TypeAlias = Annotated[int, Meta(ge=0, le=MAX_INTEGER)]
"""A whole number that survives JSON, JavaScript and `bigint`."""
Positive: TypeAlias = Annotated[int, Meta(ge=1, le=MAX_INTEGER)]
Priority: TypeAlias = Annotated[int, Meta(ge=0, le=PRIORITIES)]
SchemaVersion: TypeAlias = Annotated[int, Meta(ge=1, le=1_000)]
AttemptNumber: TypeAlias = Annotated[int, Meta(ge=1, le=1_000_000)]
HttpStatus: TypeAlias = Annotated[int, Meta(ge=100, le=599)]
Seconds: TypeAlias = Annotated[float, Meta(ge=0, le=RUN_SECONDS)]

Name: TypeAlias = Annotated[str, Meta(min_length=1, max_length=NAME_CHARS)]
Text: TypeAlias = Annotated[str, Meta(max_length=10_000)]
SaidName: TypeAlias = Annotated[str, Meta(max_length=PERSON_CHARS)]
"""Who somebody says they are: nothing proves it."""
Comment: TypeAlias = Annotated[str, Meta(max_length=9 * COMMENT_CHARS)]
"""As long as one may be that was sealed."""
OrgId: TypeAlias = Annotated[str, Meta(pattern=r"^(_|[a-z0-9][a-z0-9_-]{0,62})$")]
Id: TypeAlias = Annotated[str, Meta(pattern=r"^[A-Za-z0-9_-]{1,64}$")]
"""One token of a subject: letters, digits, `_` and `-`, so that no wildcard can hide in it."""
NodeId: TypeAlias = Annotated[str, Meta(pattern=r"^[a-z][a-z0-9_]{0,63}$")]
PortName: TypeAlias = Annotated[str, Meta(pattern=r"^[a-z][a-z0-9_]{0,63}$")]
NodeType: TypeAlias = Annotated[str, Meta(pattern=r"^[a-z][a-z0-9_]{0,31}(\.[a-z][a-z0-9_]{0,31}){0,3}$")]
PoolName: TypeAlias = Annotated[str, Meta(pattern=r"^[a-z][a-z0-9-]{0,31}$")]
StepPath: TypeAlias = Annotated[str, Meta(min_length=1, max_length=512, pattern=r"^[a-z][a-z0-9_\[\].]*$")]
"""Where a step lies in its run: `node`, `node[3]`, `node[3].inner`."""
SignalName: TypeAlias = Annotated[str, Meta(pattern=r"^[a-z][a-z0-9_-]{0,63}$")]
SignalKey: TypeAlias = Annotated[str, Meta(min_length=1, max_length=128)]
"""The same saying has the same key, however often it is said."""
Actor: TypeAlias = Annotated[str, Meta(max_length=128)]
Pointer: TypeAlias = Annotated[str, Meta(max_length=500, pattern=r"^(/([^/~]|~[01])*)*$")]
"""A JSON pointer (RFC 6901); `*` stands for every item of a list or every member."""
Marks: TypeAlias = Annotated[tuple[Pointer, ...], Meta(max_length=SENSITIVE)]
"""To what is sensitive."""
Decider: TypeAlias = Annotated[str, Meta(pattern=r"^(key|member):[A-Za-z0-9_-]{1,64}$")]
"""Who may decide: the holder of an API key, or a member of the org."""
WaitName: TypeAlias = Annotated[str, Meta(min_length=1, max_length=600)]
Sha256: TypeAlias = Annotated[str, Meta(pattern=r"^[0-9a-f]{64}$")]
