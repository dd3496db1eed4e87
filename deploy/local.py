"""The embedded stack: real servers and the five services on one machine, started and stopped as one.

Order: lock, leftovers, ports, servers side by side, database and streams, services side by side. Nothing is imported here
that takes time: whoever wires the hooks imports inside them.
"""

import asyncio
import os
import signal
import sys
from collections.abc import Coroutine, Mapping, Sequence
from pathlib import Path
from typing import Final

from msgspec import Struct

from chassis.clock import SystemClock
from chassis.ports import Away
from chassis.settings import InvalidSettings, Settings, settings_from
from deploy import reload
from deploy.data_directory import DataDirectory, open_data_directory
from deploy.keys import Keys
from deploy.ports import refuse_taken_ports
from deploy.process import Command
from deploy.readiness import serves
from deploy.refusals import Refused
from deploy.servers import EmbeddedServers, ServerOptions
from deploy.servers.nats import NatsOptions
from deploy.stack import (
    SERVICES,
    SINK_HOST,
    Hooks,
    Running,
    Service,
    Stack,
    forget_running,
    local_url,
    public_url,
    wanted_ports,
    write_last_refusal,
    write_running,
)
from deploy.supervisor import Child, Say, Supervisor

_LAZY_SYNC: Final = "1s"
_AFTER_DRAIN_SECONDS: Final = 5.0


class Order(Struct, frozen=True, kw_only=True):
    """Which stack to start."""

    settings: Settings
    hooks: Hooks
    environ: Mapping[str, str]
    """What the services inherit."""
    services: tuple[Service, ...] = SERVICES
    batch_streams: tuple[str, ...] = ()
    watch: Path | None = None
    """Restart a service when its code under this folder changes."""


def up(
    environ: Mapping[str, str],
    hooks: Hooks,
    *,
    services: Sequence[Service] = SERVICES,
    batch_streams: Sequence[str] = (),
    watch: Path | None = None,
) -> int:
    """Run the stack until somebody stops it; the exit code. What a person can mend is one line."""
    say = line_printer()
    try:
        order = Order(
            settings=settings_from(environ),
            hooks=hooks,
            environ=environ,
            services=tuple(services),
            batch_streams=tuple(batch_streams),
            watch=watch,
        )
        asyncio.run(run_stack(order, say))
    except (Refused, InvalidSettings) as refused:
        say(str(refused))
        return 1
    return 0


def line_printer() -> Say:
    """Lines to standard output, at once; when nobody reads them any more the stack goes on."""

    def say(line: str) -> None:
        try:
            sys.stdout.write(f"{line}\n")
            sys.stdout.flush()
        except OSError:
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())

    return say


async def run_stack(order: Order, say: Say) -> None:
    """Start everything, wait until somebody asks to stop, stop everything."""
    stop = asyncio.Event()
    with open_data_directory(Path(order.settings.data_dir)) as data:
        local = _Local(order, data, say)
        try:
            supervisor = Supervisor(run=data.run, say=say)
            _on_signals(stop, supervisor, say)
            async with supervisor:
                refuse_taken_ports(wanted_ports(order.settings, order.services))
                await _unless(stop, local.start(supervisor))
                await _unless(stop, local.work(supervisor))
        except (Refused, Away, OSError) as reason:
            write_last_refusal(data, reason)
            raise
        finally:
            forget_running(data)
            local.servers.forget_staging()
        say("stopped")


class _Local:
    """One start of a stack."""

    def __init__(self, order: Order, data: DataDirectory, say: Say) -> None:
        self._order = order
        self._data = data
        self._say = say
        self._services_began = 0.0
        self._users = Keys(data).nats_users(order.hooks.nats_users)
        accounts = order.hooks.nats_accounts({name: user.public_key for name, user in self._users.items()})
        settings = order.settings
        options = ServerOptions(
            nats=NatsOptions(
                accounts=accounts,
                batch_streams=order.batch_streams,
                max_file_store=settings.nats_max_file_store,
                sync_interval=_LAZY_SYNC if settings.unsafe_fast else "always",
            ),
            smtp_port=settings.smtp_port if settings.smtp_host == SINK_HOST else None,
        )
        self.servers = EmbeddedServers(data, options=options, env=order.environ, say=say)

    async def start(self, supervisor: Supervisor) -> None:
        """Until every service is ready."""
        began = asyncio.get_running_loop().time()
        hooks = self._order.hooks
        self._say(f"starting in {self._data.root}")
        await supervisor.start(self.servers.children())
        stack = self._stack()
        await hooks.migrate(stack)
        self._say("database     ready")
        await hooks.reconcile(stack)
        self.servers.link_staging()
        stack = self._stack()
        self._say("streams      ready")
        key_file = await hooks.first_key(stack)
        self._services_began = SystemClock().now().timestamp()
        await supervisor.start(self._child(stack, service) for service in self._order.services)
        self._data.mark_complete()
        self._tell(self._running(key_file), asyncio.get_running_loop().time() - began)

    async def work(self, supervisor: Supervisor) -> None:
        """Until somebody asks to stop: whoever awaits this cancels it."""
        if self._order.watch is None:
            await asyncio.Event().wait()
        else:
            names = [service.name for service in self._order.services]
            await reload.restart_what_changes(
                supervisor, self._order.watch, names, self._say, since=self._services_began
            )

    def _stack(self) -> Stack:
        return Stack(
            data=self._data,
            servers=self.servers.facts(),
            settings=self._order.settings,
            users=self._users,
        )

    def _child(self, stack: Stack, service: Service) -> Child:
        settings = self._order.settings
        tls = service.public and settings.tls_certificate_file != ""
        before = self._order.hooks.before_service

        async def ready(_pid: int) -> None:
            await serves(settings.host, service.port(settings), tls=tls)

        async def give_up() -> None:
            if before is not None:
                await before(stack, service.name)

        return Child(
            name=service.name,
            command=Command(
                argv=service.argv or (sys.executable, "-P", "-m", service.name),
                env=stack.environment_for(service, self._order.environ),
                log=self._data.logs / f"{service.name}.log",
            ),
            after=tuple(child.name for child in self.servers.children()),
            before=give_up,
            ready=ready,
            ready_within=60.0,
            grace=settings.drain_seconds + _AFTER_DRAIN_SECONDS,
        )

    def _running(self, key_file: str) -> Running:
        settings = self._order.settings
        return Running(
            pid=os.getpid(),
            gateway_url=local_url(settings, settings.gateway_port),
            ingress_url=local_url(settings, settings.ingress_port),
            public_url=public_url(settings),
            first_key_file=key_file,
            ports={service.name: service.port(settings) for service in self._order.services},
            servers=self.servers.facts(),
            unsafe_fast=settings.unsafe_fast,
        )

    def _tell(self, running: Running, seconds: float) -> None:
        write_running(self._data, running)
        self._say(f"AutomateOS is ready after {seconds:.1f} s.")
        self._say(f"  API and its docs   {running.gateway_url}/docs")
        self._say(f"  webhooks           {running.public_url}/hooks/<token>")
        self._say(
            f"  events (NATS)      {running.servers.nats_url}, batches staged {running.servers.nats_staging}"
        )
        if running.first_key_file:
            self._say(f"  API key            in {running.first_key_file}")
        if running.servers.smtp_port:
            self._say(f"  mail               kept in {self._data.mail}, nothing is sent")
        if running.unsafe_fast:
            self._say("  UNSAFE             a power cut loses what was accepted (AUTOMATEOS_UNSAFE_FAST)")
        self._say("Ctrl-C stops it.")


def _on_signals(stop: asyncio.Event, supervisor: Supervisor, say: Say) -> None:
    """The first signal asks to stop, the second ends everything at once."""

    def asked(number: signal.Signals) -> None:
        if stop.is_set():
            say("killed")
            supervisor.kill()
        else:
            say(f"{number.name}: stopping what runs (once more kills it)")
        stop.set()

    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        if signal.getsignal(number) is not signal.SIG_IGN:  # `nohup` wants to be left alone.
            loop.add_signal_handler(number, asked, number)


async def _unless(stop: asyncio.Event, work: Coroutine[None, None, None]) -> None:
    """Do the work, or drop it as soon as somebody asks to stop."""

    async def outcome() -> Exception | None:
        try:
            await work
        except Exception as error:  # Handed on below, without the wrapping of the group.
            return error
        return None

    async with asyncio.TaskGroup() as group:
        working, asked = group.create_task(outcome()), group.create_task(stop.wait())
        await asyncio.wait((working, asked), return_when=asyncio.FIRST_COMPLETED)
        done = working.done()
        working.cancel()
        asked.cancel()
    if done and (error := working.result()) is not None:
        raise error
