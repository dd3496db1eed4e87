"""The parts of the gateway, put together: the one place that knows them by their concrete names."""

from msgspec import Struct

from chassis.clock import Clock
from chassis.cursors import Cursors
from chassis.disk import WhileRoom
from chassis.dispatch import Dispatch
from chassis.edge.trails import Trails
from chassis.egress import Egress
from chassis.expressions import Language
from chassis.held import HeldEverywhere
from chassis.jetstream import JetStream
from chassis.jetstream.log import JetStreamLog
from chassis.postgres import Pool
from chassis.settings import Settings
from chassis.vault import Vault
from contracts.subjects import DOMAIN, HOOKS, RUNS, TASKS
from gateway.apis.store import Apis
from gateway.app import Parts
from gateway.approvals.queries import ApprovalQueries
from gateway.approvals.store import Approvals
from gateway.authentication import still_valid
from gateway.cases.resealing import Resealing
from gateway.cases.store import Cases
from gateway.cases.trying import Trying
from gateway.directory import Directory
from gateway.domain import Domain
from gateway.gates.queries import GateQueries
from gateway.keys.store import Keys
from gateway.live.missed import PostgresArchive
from gateway.live.streams import Live
from gateway.live.tail import Tail
from gateway.logs.live import LogStreams
from gateway.logs.reading import Logs, StoredLogs
from gateway.logs.search import LogSearch
from gateway.pauses.store import OrgPauses
from gateway.places import Places, PostgresPositions
from gateway.pools.store import Pools
from gateway.pools.watch import Watch
from gateway.ports.store import Ports
from gateway.release import RELEASE
from gateway.runs.histories import StoredHistories
from gateway.runs.inspection import RemoteInspector
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
from gateway.workflows.compiling import RemoteCompiler
from gateway.workflows.queries import WorkflowQueries
from gateway.workflows.store import Workflows


class Gateway(Struct, frozen=True, kw_only=True):
    """The parts that run beside the routes, and the routes' own."""

    directory: Directory
    places: Places
    binding: Binding
    tail: Tail
    dispatch: Dispatch
    watch: Watch
    held: HeldEverywhere
    parts: Parts


def gateway_of(  # noqa: PLR0913, PLR0917  # What the world offers.
    js: JetStream,
    postgres: Pool,
    vault: Vault,
    egress: Egress,
    clock: Clock,
    settings: Settings,
    trails: Trails,
) -> Gateway:
    """Put the parts together."""
    domain = Domain(js.domain, clock, RELEASE)
    directory = Directory(js.reader(DOMAIN))
    places = Places(PostgresPositions(postgres))
    blobs = WhileRoom(js.blobs, lambda: js.disk.state.stops_uploads)
    dispatch = Dispatch(js.signals, js.inbox)
    looks = Looks(dispatch)
    binding = Binding(domain, directory, places, looks)
    histories = StoredHistories(postgres, js.log)
    held = HeldEverywhere(js.signals, clock)
    tail = Tail(js.reader(RUNS), js.log)
    run_queries, trigger_queries = RunQueries(postgres), TriggerQueries(postgres)
    sealing = Sealing(vault)
    runs = Runs(
        dispatch=dispatch,
        log=js.log,
        blobs=blobs,
        directory=directory,
        places=places,
        clock=clock,
        queries=run_queries,
        histories=histories,
        sealing=sealing,
        disk_is_full=lambda: js.disk.state.stops_starts,
        trails=trails,
        crowds=lambda org: held.crowds(org, settings.most_backlog),
    )
    secrets = Secrets(vault, domain, places, egress)
    apis = Apis(domain, blobs, places, egress, vault)
    language = Language(kept=16)
    worker_types = Types(domain, directory, js.blobs, places)
    compiler = RemoteCompiler(js.signals, apis, worker_types)
    triggers = Triggers(
        domain=domain,
        binding=binding,
        secrets=secrets,
        places=places,
        language=language,
        looks=looks,
        clock=clock,
        public_url=settings.public_url,
        compiler=compiler,
    )

    live = Live(
        tail,
        histories,
        lambda subject: js.reader(RUNS, subject),
        PostgresArchive(postgres),
        still_valid(vault.find_key),
    )
    logs = Logs(StoredLogs(js.connection, clock))
    watch = Watch(js.signals, clock)
    redelivery = Redelivery(
        triggers=triggers,
        queries=trigger_queries,
        runs=runs,
        histories=histories,
        hooks=JetStreamLog(js.connection, HOOKS),
        blobs=js.blobs,
        vault=vault,
    )
    trying = Trying(
        domain=domain,
        compiler=compiler,
        runs=runs,
        histories=histories,
        redelivery=redelivery,
        resealing=Resealing(vault, blobs),
        sealing=sealing,
        blobs=blobs,
        clock=clock,
    )
    desk = Desk(
        Means(
            handing=js.handing,
            leases=Leases(vault),
            sealing=sealing,
            claims=Claims(js.effects),
            types=worker_types,
            runs=js.log,
            tasks=JetStreamLog(js.connection, TASKS),
            # An output of a run that was accepted waits for room only when the engine's own part is nearly gone.
            blobs=WhileRoom(js.blobs, lambda: js.disk.state.stops_outputs),
            dispatch=dispatch,
            letters=js.letters,
            signals=js.signals,
            clock=clock,
        )
    )
    parts = Parts(
        domain=domain,
        places=places,
        workflows=Workflows(domain, blobs, compiler, binding, places),
        workflow_queries=WorkflowQueries(postgres),
        trying=trying,
        cases=Cases(domain=domain, trying=trying, places=places, blobs=blobs, language=language),
        triggers=triggers,
        trigger_queries=trigger_queries,
        redelivery=redelivery,
        retroactive=Retroactive(
            triggers=triggers,
            queries=trigger_queries,
            redelivery=redelivery,
            runs=runs,
            blobs=js.blobs,
            language=Language(kept=16),
        ),
        trials=Trials(
            triggers=triggers,
            redelivery=redelivery,
            runs=runs,
            asking=Asking(
                runs=runs,
                histories=histories,
                compiler=compiler,
                cursors=Cursors(js.marks),
                blobs=js.blobs,
                clock=clock,
            ),
            sealing=sealing,
            blobs=js.blobs,
            language=Language(kept=16),
            clock=clock,
        ),
        runs=runs,
        run_queries=run_queries,
        reading=Reading(places, runs),
        approvals=Approvals(runs, histories, sealing, clock),
        approval_queries=ApprovalQueries(postgres),
        gate_queries=GateQueries(postgres),
        ports=Ports(WorkflowQueries(postgres), run_queries, histories, js.blobs),
        histories=histories,
        inspector=RemoteInspector(js.signals, js.blobs),
        logs=logs,
        log_streams=LogStreams(live, logs),
        log_search=LogSearch(postgres),
        live=live,
        secrets=secrets,
        keys=Keys(vault, domain, places, clock),
        catalogue=js.catalogue,
        apis=apis,
        pools=Pools(js.connection, watch, js.signals, desk.asked_at),
        desk=desk,
        worker_types=worker_types,
        pauses=OrgPauses(domain, directory, places, held, clock),
    )
    return Gateway(
        directory=directory,
        places=places,
        binding=binding,
        tail=tail,
        dispatch=dispatch,
        watch=watch,
        held=held,
        parts=parts,
    )
