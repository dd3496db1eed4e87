"""The gateway with everything around it in memory, but for the read models: those need Postgres (tests/integration)."""

import asyncio
import hashlib
import json
import secrets
from collections import defaultdict
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from functools import cache
from typing import Any

import msgspec
from msgspec import Raw, Struct, structs

from chassis.archive import ArchivedCommit, Lying, Since, numbered
from chassis.chains import Chains
from chassis.clock import Clock
from chassis.cursors import Cursors
from chassis.dispatch import Dispatch
from chassis.edge.connections import ABORT
from chassis.edge.guard import Guard
from chassis.edge.problems import unavailable
from chassis.edge.trails import Trails
from chassis.egress import Egress
from chassis.expressions import Language
from chassis.held import HeldEverywhere
from chassis.ids import digest
from chassis.lifecycle import companions
from chassis.ports import Ambiguous, Away, NobodyThere, Proposal, Stored
from chassis.sealing import DataKey, MasterKey, Opener, Place, Sealer, new_data_key, new_salt
from chassis.secret import Secret, SecretValue, host_pattern
from chassis.telemetry import Metrics, Tracer
from chassis.testing.clock import HandClock
from chassis.vault import (
    ApiKey,
    IssuedKey,
    NameTaken,
    NoSuchSecret,
    OpenedSecret,
    SecretDescription,
    VaultAway,
    new_api_key,
)
from contracts.cases import Outline
from contracts.codec import decode_envelope, decode_message, encode
from contracts.commits import FIRST_HASH, Commit
from contracts.logs import LogRecord
from contracts.messages import Answer, Message, Said, ScheduleLook, StartRun
from contracts.nodes import NodeSpec
from contracts.payloads import Blob
from contracts.runs import RunEvent, RunStarted
from contracts.subjects import log as log_subject
from contracts.subjects import run as run_subject
from contracts.workflows import Fault
from gateway.apis.store import Apis
from gateway.app import Parts, framework, gateway_app
from gateway.approvals.queries import ApprovalQueries
from gateway.approvals.store import Approvals
from gateway.authentication import Callers, Limits, still_valid
from gateway.cases.resealing import Resealing
from gateway.cases.store import Cases
from gateway.cases.trying import Trying
from gateway.directory import Directory
from gateway.domain import Domain
from gateway.domain import Place as LogPlace
from gateway.gates.queries import GateQueries
from gateway.gates.views import AtGateView, Standing
from gateway.keys.store import Keys
from gateway.live.streams import Live
from gateway.live.tail import Mark, Seen, Tail
from gateway.logs.live import LogStreams
from gateway.logs.reading import Kept as KeptLogs
from gateway.logs.reading import Logs
from gateway.logs.search import LogSearch
from gateway.pages import Page
from gateway.pauses.store import OrgPauses
from gateway.permissions import SCOPES
from gateway.places import Places
from gateway.pools.store import Pools
from gateway.pools.watch import Watch
from gateway.ports.store import Ports
from gateway.rejected import absent
from gateway.runs.histories import BEGINNING
from gateway.runs.inspection import Inspected
from gateway.runs.queries import RunQueries
from gateway.runs.routes import Reading
from gateway.runs.store import Runs
from gateway.sealing import Sealing
from gateway.secrets.store import Secrets
from gateway.triggers.asking import Asking
from gateway.triggers.binding import Binding
from gateway.triggers.looks import Looks
from gateway.triggers.queries import TriggerQueries
from gateway.triggers.redelivery import Redelivery
from gateway.triggers.retroactive import Retroactive
from gateway.triggers.store import Triggers
from gateway.triggers.trials import Trials
from gateway.workers.claims import Claims
from gateway.workers.desk import Desk
from gateway.workers.leases import Leases
from gateway.workers.means import Means
from gateway.workers.types import Types
from gateway.workflows.compiling import Compiled
from gateway.workflows.queries import WorkflowQueries
from gateway.workflows.store import Workflows
from tests.gateway.handing import MemoryDurables, MemoryHanding, MemoryLetters, MemorySignals

NOON = datetime(2026, 11, 21, 12, tzinfo=UTC)


class MemoryLog:
    """One stream: a `Log` and its `Reader`."""

    def __init__(self) -> None:
        self.epoch = 1
        self.messages: list[Stored] = []
        self.faults: list[Exception] = []
        """Raised by the next appends, one each; an `Ambiguous` one after it has stored."""
        self._grew = asyncio.Condition()

    async def append(self, proposals: Sequence[Proposal]) -> list[int | None]:
        fault = self.faults.pop(0) if self.faults else None
        if fault is not None and not isinstance(fault, Ambiguous):
            raise fault
        placed = [self._place(proposal) for proposal in proposals]
        async with self._grew:
            self._grew.notify_all()
        if fault is not None:
            raise fault
        return placed

    def _place(self, proposal: Proposal) -> int | None:
        before = [stored for stored in self.messages if stored.subject == proposal.subject]
        if (before[-1].sequence if before else 0) != proposal.expected:
            return None
        sequence = len(self.messages) + 1
        self.messages.append(Stored(proposal.subject, sequence, proposal.body, dict(proposal.headers)))
        return sequence

    async def history(self, subject: str, after: int = 0) -> list[Stored]:
        return [each for each in self.messages if each.subject == subject and each.sequence > after]

    async def last(self, subjects: Sequence[str]) -> dict[str, Stored]:
        return {each.subject: each for each in self.messages if each.subject in subjects}

    async def end(self) -> int:
        return len(self.messages)

    async def read(self, after: int, most: int = 2_000) -> AsyncIterator[Sequence[Stored]]:
        while True:
            batch = self.messages[after : after + most]
            yield batch
            after += len(batch)
            async with self._grew:
                while len(self.messages) == after:
                    await self._grew.wait()

    def filtered(self, pattern: str) -> "FilteredReader":
        return FilteredReader(self, pattern.removesuffix("*"))


class FilteredReader:
    """Sees the subjects that begin with a prefix."""

    def __init__(self, log: MemoryLog, prefix: str) -> None:
        self._log, self._prefix = log, prefix

    async def read(self, after: int, most: int = 2_000) -> AsyncIterator[Sequence[Stored]]:
        async for batch in self._log.read(after, most):
            if seen := [each for each in batch if each.subject.startswith(self._prefix)]:
                yield seen
            yield []

    async def end(self) -> int:
        return await self._log.end()


class MemoryLogs:
    """LOGS, as a test puts it."""

    def __init__(self) -> None:
        self.messages: list[Stored] = []
        self.first = 1
        self.since = 100.0
        self.run_began: float | None = 200.0
        self.away = False

    def put(self, record: LogRecord) -> None:
        subject = log_subject(record.org, record.run, record.step)
        self.messages.append(Stored(subject, len(self.messages) + 1, encode(record)))

    def expire(self, through: int, since: float) -> None:
        """What was stored up to this message is kept no longer."""
        self.first, self.since = through + 1, since

    async def read(self, subject: str, start: int, most: int) -> tuple[list[Stored], bool]:
        if self.away:
            raise Away
        prefix = subject.removesuffix("*")
        beyond = max(start, self.first)
        found = [m for m in self.messages if m.sequence >= beyond and m.subject.startswith(prefix)]
        return found[:most], len(found) > most

    async def kept(self) -> KeptLogs:
        return KeptLogs(self.since, self.first, len(self.messages))

    async def began(self, _org: str, _run: str) -> float | None:
        return self.run_began


class MemoryArchive:
    """What has left the log, as a test puts it."""

    def __init__(self) -> None:
        self.seen: list[Seen] = []
        self.dropped_through = 0
        """What lay up to here is gone."""
        self.away = False

    async def whole_since(self, _org: str, mark: Mark) -> bool:
        if self.away:
            raise Away
        return mark.sequence > self.dropped_through

    async def commits(self, org: str, epoch: int, after: int) -> AsyncIterator[Seen]:
        for each in self.seen:
            if each.org == org and each.kept.epoch == epoch and each.kept.sequence > after:
                yield each


class MemoryBlobs:
    def __init__(self) -> None:
        self.kept: dict[str, bytes] = {}

    async def put(self, data: bytes, content_type: str = "application/json") -> Blob:
        self.kept[digest(data)] = data
        return Blob(sha256=digest(data), size=len(data), content_type=content_type)

    async def get(self, blob: Blob) -> bytes:
        return self.kept[blob.sha256]


class MemoryVault:
    """What the real one promises, without sealing: tests/integration/test_vault.py has that one."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self.away = False
        self._keys: dict[bytes, ApiKey] = {}
        self._secrets: dict[tuple[str, str], tuple[SecretDescription, SecretValue]] = {}
        self._master = MasterKey(Secret(b"m" * 32))
        self._data_keys = {1: new_data_key("org_default", 1)}
        self._keys_of: dict[str, dict[int, DataKey]] = {"org_default": self._data_keys}
        self.salts: dict[str, bytes] = defaultdict(new_salt)

    async def issue_key(  # As the vault has it.
        self,
        org: str,
        key_id: str,
        *,
        name: str,
        scopes: Sequence[str],
        expires: datetime | None = None,
        environment: str = "live",
    ) -> IssuedKey:
        text = new_api_key(key_id, environment)
        key = ApiKey(
            id=key_id,
            org=org,
            name=name,
            scopes=tuple(scopes),
            created=self._clock.now(),
            expires=expires,
            last_used=None,
            revoked=None,
        )
        self._keys[hashlib.sha256(text.encode()).digest()] = key
        return IssuedKey(id=key_id, text=Secret(text))

    async def find_key(self, digest: bytes) -> ApiKey | None:
        if self.away:
            raise VaultAway("in this test")
        key = self._keys.get(digest)
        if key is None or key.revoked or (key.expires is not None and key.expires <= self._clock.now()):
            return None
        return key

    async def list_keys(self, org: str) -> list[ApiKey]:
        return [key for key in self._keys.values() if key.org == org]

    async def revoke_key(self, org: str, key_id: str) -> bool:
        for hash_, key in self._keys.items():
            if (key.org, key.id) == (org, key_id) and not key.revoked:
                self._keys[hash_] = structs.replace(key, revoked=self._clock.now())
                return True
        return False

    async def put_secret(
        self,
        org: str,
        secret_id: str,
        *,
        name: str,
        value: SecretValue,
        allowed_hosts: Sequence[str] = (),
        keep_previous_for: timedelta = timedelta(0),
    ) -> SecretDescription:
        hosts = tuple(host_pattern(host) for host in allowed_hosts)
        for (other_org, other), (known, _) in self._secrets.items():
            if other_org == org and other != secret_id and known.name == name:
                raise NameTaken(name)
        before = self._secrets.get((org, secret_id))
        now = self._clock.now()
        described = SecretDescription(
            id=secret_id,
            name=name,
            kind=str(value.__struct_config__.tag),
            allowed_hosts=hosts,
            created=before[0].created if before else now,
            rotated=now if before else None,
            last_used=None,
            previous_until=now + keep_previous_for if keep_previous_for else None,
            revision=before[0].revision + 1 if before else 1,
        )
        self._secrets[org, secret_id] = (described, value)
        return described

    async def describe(self, org: str, secret_id: str) -> SecretDescription:
        if (org, secret_id) not in self._secrets:
            raise NoSuchSecret(secret_id)
        return self._secrets[org, secret_id][0]

    async def open(self, org: str, secret_id: str) -> OpenedSecret:
        described = await self.describe(org, secret_id)
        return OpenedSecret(
            kind=described.kind,
            values=(self._secrets[org, secret_id][1],),
            allowed_hosts=described.allowed_hosts,
            revision=described.revision,
        )

    async def list_secrets(self, org: str) -> list[SecretDescription]:
        return [known for (other, _), (known, _) in self._secrets.items() if other == org]

    async def delete_secret(self, org: str, secret_id: str) -> bool:
        return self._secrets.pop((org, secret_id), None) is not None

    async def data_key(self, org: str) -> DataKey:
        return (await self.data_keys(org))[1]

    async def data_keys(self, org: str, generation: int = 0) -> dict[int, DataKey]:
        if self.away:
            raise VaultAway("in this test")
        return self._keys_of.setdefault(org, {1: new_data_key(org, 1)})

    async def sealer(self, org: str, run: str) -> tuple[str, Sealer]:
        place = Place(org=org, object=run, field="value")
        key_id = f"salt_{run}"
        return key_id, Sealer(self._data_keys[1], self.salts[key_id], "run.value", place)

    async def opener(self, org: str, run: str, key_id: str) -> Opener:
        place = Place(org=org, object=run, field="value")
        return Opener(self._data_keys, self.salts[key_id], "run.value", place)


class Engine:
    """The orchestrator, as far as the gateway sees it: compiles, starts runs in RUNS, answers wishes."""

    def __init__(self, runs: MemoryLog) -> None:
        self._runs = runs
        self.away = False
        self.broken = False
        self.faults: tuple[Fault, ...] = ()
        self.compiled: list[Any] = []
        self.answer_with: Answer | None = None
        self.heard: list[Message] = []
        self.looks: list[str] = []
        """The schedules that their owner was told to look at."""
        self.inbox: list[bytes] = []
        self.plans: dict[str, bytes] = {}
        """Where plans are kept, as far as the gateway reads them: a drawn node looks like a planned one."""

    async def compile(self, request: Any) -> Compiled:
        if self.broken:
            raise RuntimeError(f"a defect that knows {request.definition}")
        if self.away:
            raise unavailable("No orchestrator answers.")
        self.compiled.append(request)
        if self.faults:
            return Compiled(plan=None, faults=self.faults)
        outline = None
        if request.trial is not None:
            outline = Outline(acts=(), decides=(), pinned=(), left_out=())
        self.plans[digest(bytes(request.definition))] = bytes(request.definition)
        return Compiled(plan=digest(bytes(request.definition)), faults=(), outline=outline)

    async def inspect(self, org: str, run_id: str, at: int | None) -> Inspected:
        return Inspected(
            state=Raw(encode({"org": org, "run": run_id, "at": at})), waiting_for=Raw(b'[{"kind":"attempt"}]')
        )

    # Signals and Inbox, for Dispatch.

    async def request(self, subject: str, body: bytes, timeout: float) -> bytes:
        if self.away:
            raise NobodyThere(subject)
        messages = msgspec.json.decode(body, type=list[Raw])
        return encode([await self._take(decode_message(each)) for each in messages])

    async def put(self, partition: int, bundle: bytes) -> None:
        self.inbox.append(bundle)

    async def _take(self, message: Said) -> Answer:
        if isinstance(message, ScheduleLook):
            self.looks.append(message.run)
            return Answer(run=message.run, result="accepted")
        self.heard.append(message)
        if self.answer_with is not None:
            return structs.replace(self.answer_with, run=message.run)
        if isinstance(message, StartRun):
            return await self.start(message)
        last = (await self._runs.last([run_subject(message.org, message.run)])).popitem()[1]
        return Answer(run=message.run, result="accepted", epoch=1, sequence=last.sequence)

    async def start(self, message: StartRun) -> Answer:
        started = RunStarted(
            plan=message.plan,
            workflow=message.workflow,
            version=message.version,
            trigger=message.trigger,
            receipt=message.receipt,
            cause=message.cause,
            input=message.input,
            org_vars=message.org_vars,
            dedupe=message.dedupe,
            request=message.request,
            mode=message.mode,
        )
        commit = commit_of(message.org, message.run, [started], actor=message.actor, key_id=message.key_id)
        subject = run_subject(message.org, message.run)
        (sequence,) = await self._runs.append([Proposal(subject, encode(commit), 0)])
        if sequence is not None:
            return Answer(
                run=message.run,
                result="accepted",
                epoch=1,
                sequence=sequence,
                receipt=message.receipt,
                request=message.request,
            )
        first = (await self._runs.history(subject))[0]
        event = json.loads(first.body)["events"][0]
        return Answer(
            run=message.run,
            result="duplicate",
            epoch=1,
            sequence=first.sequence,
            receipt=event["receipt"],
            request=event["request"],
        )


def commit_of(
    org: str,
    run: str,
    events: Sequence[RunEvent],
    *,
    version: int = 1,
    actor: str = "system",
    key_id: str = "",
) -> Commit[RunEvent]:
    return Commit(
        id=f"c{version}",
        org=org,
        run=run,
        version=version,
        events=tuple(events),
        time=NOON,
        actor=actor,
        causation_id="",
        correlation_id="",
        engine_version="0.1.0",
        key_id=key_id,
        prev_hash=FIRST_HASH,
    )


class LogHistories:
    """Histories of which nothing has moved to the archive."""

    def __init__(self, runs: MemoryLog) -> None:
        self._runs = runs

    async def pages(self, org: str, run_id: str, since: Since = BEGINNING) -> AsyncIterator[Sequence[Lying]]:
        history = await self._runs.history(run_subject(org, run_id))
        commits = [
            ArchivedCommit(decode_envelope(stored.body).version, 1, stored.sequence, stored.body)
            for stored in history
        ]
        if commits:
            yield numbered(commits, 0)


class FixedPositions:
    """Read models that are as far as a test says; away until it does."""

    def __init__(self) -> None:
        self.at: dict[str, LogPlace] = {}
        self.asked = 0
        self.away = True

    async def read(self) -> Mapping[str, LogPlace]:
        self.asked += 1
        if self.away:
            raise Away("no Postgres in unit tests")
        return dict(self.at)


class NoPostgres:
    """A database that is not there: what the read models are asked for is `Away`."""

    async def acquire(self, timeout: float = 0.0) -> Any:
        raise ConnectionRefusedError("no Postgres in unit tests")


class NoRunRows(RunQueries):
    """No run is so old that only its row is left."""

    async def place_of(self, org: str, run_id: str) -> LogPlace:
        raise absent("run")


class NoGates(GateQueries):
    """Nobody is at any gate."""

    async def at(
        self, org: str, gate: str, standing: Standing | None, cursor: str | None, limit: int
    ) -> Page[AtGateView]:
        raise absent("gate")


class Catalogue:
    async def specs(self) -> Mapping[str, NodeSpec]:
        spec = NodeSpec(
            type="echo",
            title="Echo",
            help="Gives back what it gets.",
            icon="repeat",
            category="test",
            config={},
        )
        return {"echo": spec, "echo@1": spec}


class Reply(Struct, frozen=True):
    """An answer of the app."""

    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)


@cache
def routes() -> Any:
    """The framework's part, made once: it knows no office."""
    return framework("0.1.0")


class Office:
    """A gateway with one org's key, spoken to without a socket."""

    def __init__(self, limit: Limits | None = None) -> None:
        self.clock = HandClock()
        self.domain_log, self.runs_log, self.hooks_log = MemoryLog(), MemoryLog(), MemoryLog()
        self.marks_log, self.patience = MemoryLog(), 0.5
        self.effects_log, self.handing, self.signals = MemoryLog(), MemoryHanding(), MemorySignals()
        self.durables, self.letters, self.tasks_log = MemoryDurables(), MemoryLetters(), MemoryLog()
        self.blobs = MemoryBlobs()
        self.vault = MemoryVault(self.clock)
        self.engine = Engine(self.runs_log)
        self.engine.plans = self.blobs.kept
        self.positions = FixedPositions()
        self.disk_is_full = False
        self.egress = Egress()
        self.chains = Chains(Secret(b"k" * 32), self.clock)
        self.parts, self.beside = self._parts()
        self.metrics = Metrics("gateway")
        self.app = self._app(limit)
        self.key = ""

    def _parts(self) -> tuple[Parts, list[Any]]:
        domain = Domain(self.domain_log, self.clock, "0.1.0")
        self.directory = Directory(self.domain_log)
        self.places = Places(self.positions)
        dispatch = Dispatch(self.engine, self.engine)  # type: ignore[arg-type]  # The two methods that it uses.
        looks = Looks(dispatch)
        self.binding = Binding(domain, self.directory, self.places, looks)
        histories = LogHistories(self.runs_log)
        self.held = HeldEverywhere(self.engine, self.clock)  # type: ignore[arg-type]  # Told by hand.
        self.tail = Tail(self.runs_log, self.runs_log)
        postgres: Any = NoPostgres()
        run_queries, trigger_queries = NoRunRows(postgres), TriggerQueries(postgres)
        sealing = Sealing(self.vault)
        runs = Runs(
            dispatch=dispatch,
            log=self.runs_log,
            blobs=self.blobs,
            directory=self.directory,
            places=self.places,
            clock=self.clock,
            queries=run_queries,
            histories=histories,
            sealing=sealing,
            disk_is_full=lambda: self.disk_is_full,
            trails=Trails(self.chains),
            crowds=lambda org: self.held.crowds(org, 5),
        )
        secrets_ = Secrets(self.vault, domain, self.places, self.egress)
        triggers = Triggers(
            domain=domain,
            binding=self.binding,
            secrets=secrets_,
            places=self.places,
            language=Language(),
            looks=looks,
            clock=self.clock,
            public_url="https://hooks.example.com/",
            compiler=self.engine,
        )
        self.apis = Apis(domain, self.blobs, self.places, self.egress, self.vault)
        self.archive, self.logs = MemoryArchive(), MemoryLogs()
        self.live = Live(
            self.tail,
            histories,
            self.runs_log.filtered,
            self.archive,
            still_valid(self.vault.find_key),
            0.05,
        )
        logs = Logs(self.logs)
        redelivery = Redelivery(
            triggers=triggers,
            queries=trigger_queries,
            runs=runs,
            histories=histories,
            hooks=self.hooks_log,
            blobs=self.blobs,
            vault=self.vault,
        )
        trying = Trying(
            domain=domain,
            compiler=self.engine,
            runs=runs,
            histories=histories,
            redelivery=redelivery,
            resealing=Resealing(self.vault, self.blobs),
            sealing=sealing,
            blobs=self.blobs,
            clock=self.clock,
        )
        self.watch = Watch(self.signals, self.clock)
        worker_types = Types(domain, self.directory, self.blobs, self.places)
        self.desk = Desk(
            Means(
                handing=self.handing,
                leases=Leases(self.vault),
                sealing=sealing,
                claims=Claims(self.effects_log),
                types=worker_types,
                runs=self.runs_log,
                tasks=self.tasks_log,
                blobs=self.blobs,
                dispatch=dispatch,
                letters=self.letters,
                signals=self.signals,
                clock=self.clock,
            )
        )
        parts = Parts(
            domain=domain,
            places=self.places,
            workflows=Workflows(domain, self.blobs, self.engine, self.binding, self.places),
            workflow_queries=WorkflowQueries(postgres),
            triggers=triggers,
            trigger_queries=trigger_queries,
            redelivery=redelivery,
            retroactive=Retroactive(
                triggers=triggers,
                queries=trigger_queries,
                redelivery=redelivery,
                runs=runs,
                blobs=self.blobs,
                language=Language(),
            ),
            trials=Trials(
                triggers=triggers,
                redelivery=redelivery,
                runs=runs,
                asking=Asking(
                    runs=runs,
                    histories=histories,
                    compiler=self.engine,
                    cursors=Cursors(self.marks_log),
                    blobs=self.blobs,
                    clock=self.clock,
                    patience=self.patience,
                ),
                sealing=sealing,
                blobs=self.blobs,
                language=Language(),
                clock=self.clock,
            ),
            trying=trying,
            cases=Cases(
                domain=domain, trying=trying, places=self.places, blobs=self.blobs, language=Language()
            ),
            runs=runs,
            run_queries=run_queries,
            reading=Reading(self.places, runs),
            approvals=Approvals(runs, histories, sealing, self.clock),
            approval_queries=ApprovalQueries(postgres),
            gate_queries=NoGates(postgres),
            ports=Ports(WorkflowQueries(postgres), run_queries, histories, self.blobs),
            histories=histories,
            inspector=self.engine,
            logs=logs,
            log_streams=LogStreams(self.live, logs, 0.02),
            log_search=LogSearch(postgres),
            live=self.live,
            secrets=secrets_,
            keys=Keys(self.vault, domain, self.places, self.clock),
            catalogue=Catalogue(),
            apis=self.apis,
            pools=Pools(self.durables, self.watch, self.signals, self.desk.asked_at),
            desk=self.desk,
            worker_types=worker_types,
            pauses=OrgPauses(domain, self.directory, self.places, self.held, self.clock),
        )
        beside = [dispatch.run, self.directory.follow, self.places.run, self.binding.run, self.tail.run]
        beside += [self.watch.run, self.desk.run]
        return parts, beside

    def _app(self, limit: Limits | None) -> Guard:
        async def ready() -> list[str]:
            return []

        return gateway_app(
            routes(),
            self.parts,
            callers=Callers(self.vault.find_key, limit),
            ready=ready,
            metrics=self.metrics,
            tracer=Tracer(),
        )

    async def key_for(self, org: str, scopes: Sequence[str] = tuple(SCOPES)) -> str:
        """The text of a new key."""
        issued = await self.vault.issue_key(org, secrets.token_hex(8), name="test", scopes=scopes)
        return issued.text.reveal_text()

    async def ask(
        self,
        method: str,
        path: str,
        body: object = None,
        *,
        key: str | None = None,
        raw: bytes | None = None,
        **headers: str,
    ) -> Reply:
        """One request. `body` goes as JSON; `raw` as it is."""
        data = raw if raw is not None else (b"" if body is None else json.dumps(body).encode())
        exchange = Exchange(data)
        given = {"authorization": f"Bearer {self.key if key is None else key}"}
        if data:
            given["content-type"] = "application/json"
        given |= {name.replace("_", "-"): value for name, value in headers.items()}
        await self.app(scope_of(method, path, given, exchange.cut), exchange.receive, exchange.send)
        return exchange.reply()

    async def api(self, method: str, path: str, body: object = None, **more: Any) -> Reply:
        return await self.ask(method, f"/api/v1{path}", body, **more)


class Exchange:
    """Both ends of one request."""

    def __init__(self, body: bytes) -> None:
        self._body = body
        self.asked = False
        self.left = asyncio.Event()
        self.status = 0
        self.headers: dict[str, str] = {}
        self.parts: list[bytes] = []
        self.grew = asyncio.Event()
        self.ended = False
        self.reads = asyncio.Event()
        self.reads.set()
        """Cleared: what is sent does not get through."""

    def cut(self) -> None:
        """The connection is dropped: nothing gets through any more, and nobody waits for it."""
        self.status = 0
        self.left.set()
        self.reads.set()

    async def receive(self) -> dict[str, Any]:
        if self.asked:
            await self.left.wait()
            return {"type": "http.disconnect"}
        self.asked = True
        return {"type": "http.request", "body": self._body, "more_body": False}

    async def send(self, message: Any) -> None:
        await self.reads.wait()
        if message["type"] == "http.response.start":
            self.status = message["status"]
            self.headers = {name.decode(): value.decode() for name, value in message["headers"]}
            return
        self.parts.append(message.get("body", b""))
        self.ended = not message.get("more_body", False)
        self.grew.set()

    def reply(self) -> Reply:
        return Reply(self.status, self.headers, b"".join(self.parts))


def scope_of(
    method: str, path: str, headers: Mapping[str, str], cut: Callable[[], None] = lambda: None
) -> dict[str, Any]:
    plain, _, query = path.partition("?")
    return {
        "type": "http",
        "asgi": {"version": "3.0", "spec_version": "2.3"},
        "http_version": "1.1",
        "method": method,
        "scheme": "http",
        "path": plain,
        "raw_path": plain.encode(),
        "root_path": "",
        "query_string": query.encode(),
        "headers": [(name.lower().encode(), value.encode("latin-1")) for name, value in headers.items()],
        "client": ("203.0.113.9", 4711),
        "server": ("127.0.0.1", 8401),
        "state": {},
        "extensions": {ABORT: cut},
    }


@asynccontextmanager
async def open_office(org: str = "org_default", limit: Limits | None = None) -> AsyncIterator[Office]:
    """A running gateway with a key that may do everything in its org."""
    office = Office(limit)
    async with companions() as group:
        for work in office.beside:
            group.create_task(work())
        await office.directory.complete.wait()
        await office.tail.following.wait()
        office.key = await office.key_for(org)
        yield office
    office.egress.close()
