"""From commits of DOMAIN to rows: workflows and their versions, triggers, secrets, API keys, orgs. A pure fold."""

import copy
import hashlib
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, Final, TypeAlias

from msgspec import Struct, field, structs

from chassis.ports import Stored
from contracts import apis, triggers, workers, workflows
from contracts.codec import Malformed, Unknown, decode_domain_commit, decode_envelope, encode
from contracts.commits import DomainCommit
from contracts.payloads import Blob
from projections.arrived import Letter, Trouble
from projections.rows import (
    ApiKeyRow,
    DomainCommitRow,
    OrgRow,
    SecretRow,
    TriggerRow,
    VersionRow,
    WorkflowRow,
)
from projections.sanitised import moment, text

AggregateRow: TypeAlias = WorkflowRow | TriggerRow | SecretRow | ApiKeyRow | OrgRow
AggregateKey: TypeAlias = tuple[str, str, str]
"""Aggregate, org, id."""
VARS_CHARS: Final = 2_000_000


class DomainArrived(Struct, frozen=True, kw_only=True):
    """One message of DOMAIN, read as far as this release can read it."""

    stored: Stored
    epoch: int
    org: str
    aggregate: str
    id: str
    version: int
    """0: not even the frame can be read."""
    prev_hash: str = ""
    commit: DomainCommit[Any] | None = None
    trouble: Trouble | None = None
    reason: str = ""

    @property
    def key(self) -> AggregateKey:
        return self.aggregate, self.org, self.id


class DomainChanges(Struct):
    """What a batch asks of the tables."""

    rows: dict[AggregateKey, AggregateRow] = field(default_factory=dict)
    versions: dict[tuple[str, str, int], VersionRow] = field(default_factory=dict)
    published: dict[tuple[str, str, int], tuple[str, datetime]] = field(default_factory=dict)
    """Plan and time of versions that were published."""
    commits: list[DomainCommitRow] = field(default_factory=list)
    letters: list[Letter] = field(default_factory=list)
    heads: dict[AggregateKey, bytes] = field(default_factory=dict)
    """Hashes of the newest commits, as far as they are known."""
    seen_again: int = 0


def read(stored: Stored, epoch: int) -> DomainArrived:
    """Decode a message of DOMAIN. Whatever its bytes are, something comes back that says so."""
    _, org, aggregate, id_ = stored.subject.split(".")
    frame = DomainArrived(stored=stored, epoch=epoch, org=org, aggregate=aggregate, id=id_, version=0)
    try:
        commit = decode_domain_commit(stored.body, aggregate)
    except (Unknown, Malformed) as error:
        trouble: Trouble = "unknown" if isinstance(error, Unknown) else "malformed"
        version, prev_hash = _framed(stored.body, (org, aggregate, id_))
        return structs.replace(
            frame, version=version, prev_hash=prev_hash, trouble=trouble, reason=text(str(error))
        )
    told = commit.org, commit.aggregate, commit.aggregate_id
    if told != (org, aggregate, id_):
        reason = f"the commit says that it belongs to {'.'.join(told)}"
        return structs.replace(frame, trouble="misplaced", reason=reason)
    return structs.replace(frame, version=commit.version, prev_hash=commit.prev_hash, commit=commit)


def _framed(body: bytes, place: tuple[str, str, str]) -> tuple[int, str]:
    """Version and hash of the one before, as far as the frame can be read."""
    try:
        envelope = decode_envelope(body)
    except Malformed:
        return 0, ""
    told = envelope.org, envelope.aggregate, envelope.aggregate_id
    return (envelope.version, envelope.prev_hash) if told == place else (0, "")


def fold(
    known: dict[AggregateKey, AggregateRow],
    batch: Sequence[DomainArrived],
    heads: Mapping[AggregateKey, bytes] | None = None,
) -> DomainChanges:
    """The rows that change, as they are after the batch. `known` is left as it was.

    `heads`: the hash of the newest commit of each aggregate that has a row.
    """
    changes = DomainChanges(heads=dict(heads or {}))
    for arrived in batch:
        _add(known, changes, arrived)
    return changes


def _check_chain(changes: DomainChanges, arrived: DomainArrived, head: int) -> None:
    if arrived.version > head + 1:
        _complain(changes, arrived, "gap", f"versions {head + 1} to {arrived.version - 1} are missing")
        return
    before = changes.heads.get(arrived.key) if head else b""
    if before is not None and arrived.prev_hash != before.hex():
        _complain(changes, arrived, "chain", f"version {arrived.version} does not follow from the one before")


def _add(known: dict[AggregateKey, AggregateRow], changes: DomainChanges, arrived: DomainArrived) -> None:
    if arrived.trouble is not None:
        _complain(changes, arrived, arrived.trouble, arrived.reason)
    if arrived.version == 0:
        return
    before = changes.rows.get(arrived.key) or known.get(arrived.key)
    head = before.head_version if before is not None else 0
    if arrived.version <= head:
        changes.seen_again += 1
        return
    _check_chain(changes, arrived, head)
    _keep(changes, arrived)
    row = _row(before, arrived)
    if row is None:
        return
    row.head_version, row.epoch, row.sequence = arrived.version, arrived.epoch, arrived.stored.sequence
    if arrived.commit is not None:
        for event in arrived.commit.events:
            _EFFECTS[type(event)](_Scene(row=row, commit=arrived.commit, changes=changes), event)
    changes.rows[arrived.key] = row


def _row(before: AggregateRow | None, arrived: DomainArrived) -> AggregateRow | None:
    """The aggregate's row, ready to be changed. None for an aggregate that this release has no table for."""
    if before is not None:
        return copy.copy(before)
    if arrived.aggregate not in ROWS:
        return None
    at, by = _time(arrived), "" if arrived.commit is None else text(arrived.commit.actor)
    return ROWS[arrived.aggregate](arrived.org, arrived.id, at, by)


def _keep(changes: DomainChanges, arrived: DomainArrived) -> None:
    digest = changes.heads[arrived.key] = hashlib.sha256(arrived.stored.body).digest()
    changes.commits.append(
        DomainCommitRow(
            org=arrived.org,
            aggregate=arrived.aggregate,
            id=arrived.id,
            version=arrived.version,
            epoch=arrived.epoch,
            sequence=arrived.stored.sequence,
            time=_time(arrived),
            hash=digest,
            body=arrived.stored.body,
        )
    )


def _complain(changes: DomainChanges, arrived: DomainArrived, trouble: Trouble, reason: str) -> None:
    changes.letters.append(
        Letter(
            stored=arrived.stored,
            epoch=arrived.epoch,
            trouble=trouble,
            reason=reason,
            org=arrived.org,
            run=arrived.id,
        )
    )


def _time(arrived: DomainArrived) -> datetime:
    if arrived.commit is not None:
        return moment(arrived.commit.time)
    return datetime.fromtimestamp(arrived.stored.time, UTC)


# --- What each event changes ------------------------------------------------------------------


class _Scene(Struct):
    row: Any
    """The row that the event's aggregate has."""
    commit: DomainCommit[Any]
    changes: DomainChanges

    @property
    def at(self) -> datetime:
        return moment(self.commit.time)


def _named(scene: _Scene, event: workflows.WorkflowCreated | workflows.WorkflowRenamed) -> None:
    scene.row.name, scene.row.updated = text(event.name), scene.at


def _drafted(scene: _Scene, event: workflows.VersionDrafted) -> None:
    row, definition = scene.row, event.definition
    scene.changes.versions[row.org, row.id, event.version] = VersionRow(
        org=row.org,
        workflow=row.id,
        version=event.version,
        definition=None if isinstance(definition, Blob) else bytes(definition.value),
        definition_blob=definition.sha256 if isinstance(definition, Blob) else None,
        definition_size=definition.size if isinstance(definition, Blob) else len(definition.value),
        drafted=scene.at,
        drafted_by=text(scene.commit.actor),
    )
    row.latest_version, row.updated = max(row.latest_version, event.version), scene.at


def _published(scene: _Scene, event: workflows.VersionPublished) -> None:
    row = scene.row
    row.published_version, row.plan, row.updated = event.version, event.plan, scene.at
    scene.changes.published[row.org, row.id, event.version] = (event.plan, scene.at)


def _case_changed(_scene: _Scene, _: workflows.CaseKept | workflows.CaseRemoved) -> None:
    """Test cases are read from the log."""


def _deleted(scene: _Scene, _: Any) -> None:
    scene.row.deleted = scene.row.updated = scene.at


def _trigger_created(scene: _Scene, event: triggers.TriggerCreated) -> None:
    scene.row.workflow = event.workflow
    scene.row.token, scene.row.test_token = event.token, event.test_token
    _trigger_changed(scene, event)


def _trigger_changed(scene: _Scene, event: triggers.TriggerCreated | triggers.TriggerChanged) -> None:
    scene.row.name, scene.row.webhook = text(event.name), encode(event.webhook).decode()
    scene.row.updated = scene.at


def _schedule_created(scene: _Scene, event: triggers.ScheduleCreated) -> None:
    scene.row.kind, scene.row.workflow = "schedule", event.workflow
    _schedule_changed(scene, event)


def _schedule_changed(scene: _Scene, event: triggers.ScheduleCreated | triggers.ScheduleChanged) -> None:
    scene.row.name, scene.row.schedule = text(event.name), text(encode(event.schedule).decode(), VARS_CHARS)
    scene.row.updated = scene.at


def _occasion_created(scene: _Scene, event: triggers.OccasionCreated) -> None:
    scene.row.kind, scene.row.workflow = str(event.on.__struct_config__.tag), event.workflow
    _occasion_changed(scene, event)


def _address_created(scene: _Scene, event: triggers.FormCreated | triggers.ChatCreated) -> None:
    scene.row.token, scene.row.test_token = event.token, event.test_token
    _occasion_created(scene, event)


def _occasion_changed(scene: _Scene, event: triggers.OccasionCreated | triggers.OccasionChanged) -> None:
    scene.row.name, scene.row.occasion = text(event.name), text(encode(event.on).decode(), VARS_CHARS)
    scene.row.updated = scene.at


def _rotated(scene: _Scene, event: triggers.TokenRotated) -> None:
    scene.row.token, scene.row.test_token, scene.row.updated = event.token, event.test_token, scene.at


def _bound(scene: _Scene, event: triggers.TriggerBound) -> None:
    scene.row.version, scene.row.plan, scene.row.updated = event.version, event.plan, scene.at


def _enabled(scene: _Scene, _: triggers.TriggerEnabled) -> None:
    scene.row.enabled, scene.row.updated = True, scene.at


def _disabled(scene: _Scene, _: triggers.TriggerDisabled) -> None:
    scene.row.enabled, scene.row.updated = False, scene.at


def _secret_stored(scene: _Scene, event: workflows.SecretStored) -> None:
    row = scene.row
    row.name, row.kind = text(event.name), text(event.kind)
    row.allowed_hosts = [text(host) for host in event.allowed_hosts]
    row.updated, row.deleted = scene.at, None


def _issued(scene: _Scene, event: workflows.KeyIssued) -> None:
    scene.row.name, scene.row.scopes = text(event.name), [text(scope) for scope in event.scopes]


def _revoked(scene: _Scene, _: workflows.KeyRevoked) -> None:
    scene.row.revoked = scene.at


def _org_created(scene: _Scene, event: workflows.OrgCreated) -> None:
    scene.row.name, scene.row.updated = text(event.name), scene.at


def _vars_set(scene: _Scene, event: workflows.OrgVarsSet) -> None:
    scene.row.vars, scene.row.updated = text(encode(event.vars).decode(), VARS_CHARS), scene.at


def _org_changed(
    scene: _Scene,
    _: workflows.OrgLimitsSet | apis.OrgApiImported | apis.OrgApiRemoved | workers.OrgWorkersAnnounced,
) -> None:
    """What an org has of its own is read from the log; its row only knows when."""
    scene.row.updated = scene.at


_EFFECTS: Final[dict[type, Callable[[_Scene, Any], None]]] = {
    workflows.WorkflowCreated: _named,
    workflows.WorkflowRenamed: _named,
    workflows.VersionDrafted: _drafted,
    workflows.VersionPublished: _published,
    workflows.CaseKept: _case_changed,
    workflows.CaseRemoved: _case_changed,
    workflows.WorkflowDeleted: _deleted,
    workflows.OrgCreated: _org_created,
    workflows.OrgVarsSet: _vars_set,
    workflows.OrgLimitsSet: _org_changed,
    apis.OrgApiImported: _org_changed,
    apis.OrgApiRemoved: _org_changed,
    workers.OrgWorkersAnnounced: _org_changed,
    workflows.SecretStored: _secret_stored,
    workflows.SecretDeleted: _deleted,
    workflows.KeyIssued: _issued,
    workflows.KeyRevoked: _revoked,
    triggers.TriggerCreated: _trigger_created,
    triggers.TriggerChanged: _trigger_changed,
    triggers.ScheduleCreated: _schedule_created,
    triggers.ScheduleChanged: _schedule_changed,
    triggers.RunEndCreated: _occasion_created,
    triggers.RunEndChanged: _occasion_changed,
    triggers.EventCreated: _occasion_created,
    triggers.EventChanged: _occasion_changed,
    triggers.FormCreated: _address_created,
    triggers.FormChanged: _occasion_changed,
    triggers.ChatCreated: _address_created,
    triggers.ChatChanged: _occasion_changed,
    triggers.PollCreated: _occasion_created,
    triggers.PollChanged: _occasion_changed,
    triggers.TokenRotated: _rotated,
    triggers.TriggerBound: _bound,
    triggers.TriggerEnabled: _enabled,
    triggers.TriggerDisabled: _disabled,
    triggers.TriggerDeleted: _deleted,
}
EFFECTS: Final = frozenset(_EFFECTS)

ROWS: Final[dict[str, Callable[[str, str, datetime, str], AggregateRow]]] = {
    "workflow": lambda org, id_, at, by: WorkflowRow(org=org, id=id_, created=at, created_by=by, updated=at),
    "trigger": lambda org, id_, at, by: TriggerRow(org=org, id=id_, created=at, created_by=by, updated=at),
    "secret": lambda org, id_, at, by: SecretRow(org=org, id=id_, created=at, created_by=by, updated=at),
    "key": lambda org, id_, at, by: ApiKeyRow(org=org, id=id_, created=at, created_by=by),
    "org": lambda org, id_, at, _: OrgRow(org=org, id=id_, created=at, updated=at),
}
