"""The command line: `python -m nodes logging --port 5002` and `python -m nodes messages --port 5001`."""

import asyncio
import contextlib
import logging
import os
from collections.abc import AsyncIterator, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click
import structlog
import uvloop

from common import config, hostport, process
from common.discovery.registration import Registration
from common.errors import FatalError
from common.rpc.pipelined import PipelinedTransport
from common.rpc.server import IN_FLIGHT, Server
from common.security import exposure, keyring
from common.settings.option import config_option
from nodes import messages, retention
from nodes.hazelcast import cluster
from nodes.hazelcast.map import quiet_abandoned_calls
from nodes.metrics import NodeMetrics
from nodes.replication.anti_entropy import AntiEntropy
from nodes.replication.core.effects import Settings
from nodes.replication.core.machine import Core
from nodes.replication.runtime import Replicator
from nodes.service import LoggingNode
from nodes.storage.sqlite import SqliteJournal, open_journal

log = structlog.get_logger()

RunningMap = AbstractAsyncContextManager["asyncio.Future[str]"]

LEAVE_S = 3.0  # limit for leaving the in-sync set; accepted records are confirmed within a fraction of it

_port = click.option("--port", type=click.IntRange(1, 65_535), required=True, help="Port to listen on.")
_host = click.option("--host", default="127.0.0.1", show_default=True, help="Address to listen on.")


@click.group()
def main() -> None:
    """Run one node."""
    logging.getLogger("hazelcast").setLevel(logging.ERROR)  # below that it logs each lost connection several times


@main.command("messages")
@_port
@_host
@config_option
def run_messages(port: int, host: str, path: Path) -> None:
    """Answer with a static text."""
    settings = config.load(path, os.environ)
    address = _reachable(host, port)
    keys = process.keyring_of(settings, path.parent, address)
    for warning in exposure.of_server(address, keys=keys is not None):
        log.warning(warning)
    uvloop.run(_run_messages(address, settings.registry.addresses, keys))


@dataclass(frozen=True, slots=True)
class Options:
    """The options of one logging node.

    Attributes:
        address: host:port of the node.
        engine: "hazelcast" or "embedded".
        directory: the directory of its journal and logs.
        member: host:port of its Hazelcast member, if it is not in the configuration.
        metrics: host:port at which Prometheus scrapes its metrics; None for no metrics.
        keys: the keys of the processes; None if they talk in clear.
    """

    address: str
    engine: str
    directory: Path
    member: str | None
    metrics: str | None
    keys: keyring.Keyring | None


@main.command("logging")
@_port
@_host
@config_option
@click.option("--engine", "name", type=click.Choice(["hazelcast", "embedded"]), help="Instead of [storage] engine.")
@click.option("--member", help="host:port of the member that a node starts which is not in config.toml.")
@click.option("--metrics", help="host:port at which Prometheus finds its metrics, instead of that in [metrics].")
def run_logging(*, port: int, host: str, path: Path, name: str | None, member: str | None, metrics: str | None) -> None:
    """Store and read messages, with a Hazelcast member of its own."""
    settings, address = config.load(path, os.environ), _reachable(host, port)
    keys = process.keyring_of(settings, path.parent, address)
    for warning in exposure.of_server(address, keys=keys is not None):
        log.warning(warning)
    options = Options(
        address=address,
        engine=name or settings.storage.engine,
        directory=path.parent / settings.storage.directory,
        member=member,
        metrics=metrics or config.metrics_of(settings, address),
        keys=keys,
    )
    uvloop.run(_run_logging(settings, options))


def _reachable(host: str, port: int) -> str:
    """The host:port under which the node is listed, which is also the one that it binds.

    Raises:
        FatalError: the host is a wildcard, which other processes cannot connect to.
    """
    if host in hostport.EVERYWHERE:
        raise FatalError(
            f"--host {host} is not an address at which other processes can connect: give the host that they use"
        )
    return hostport.join(host, port)


async def _run_messages(address: str, registries: Sequence[str], keys: keyring.Keyring | None) -> None:
    stopping, stop = process.stop_on_signal(), asyncio.Event()
    transport = PipelinedTransport(keys)
    serving = asyncio.create_task(_serve(Server(address, messages.handle, keys), address, stop))
    registration = Registration(
        asyncio.get_running_loop(), transport, registries, name="messages-service", address=address
    )
    registration.renew()
    await asyncio.wait({asyncio.create_task(stopping.wait()), serving}, return_when=asyncio.FIRST_COMPLETED)
    if answers := registration.deregister():
        await asyncio.wait(answers)
    stop.set()
    await serving
    transport.close()


async def _serve(server: Server, address: str, stop: asyncio.Event) -> None:
    log.info("listening", address=address)
    await server.serve(stop)


async def _run_logging(settings: config.Config, options: Options) -> None:
    asyncio.get_running_loop().set_exception_handler(quiet_abandoned_calls)
    stopping = asyncio.create_task(process.stop_on_signal().wait())
    metrics = NodeMetrics()
    file = options.directory / f"journal-{hostport.split(options.address)[1]}.sqlite"
    cluster_name = settings.hazelcast.cluster_name
    async with (
        open_journal(file, cluster_name, options.address, on_commit=metrics.committed) as journal,
        _transport(options.keys) as transport,
    ):
        node, replicator = _built(settings, options, journal, transport)
        server = Server(
            options.address,
            metrics.measured(node.handle),
            options.keys,
            direct=metrics.measured_direct(replicator.direct),
            peer_in_flight=IN_FLIGHT,
        )
        metrics.watch(node.report, lambda: server.refused)
        with metrics.served(options.metrics):
            async with replicator.running():
                running_map = _running_map(settings, options, node, transport, metrics)
                serving = _Serving(node, journal, replicator, settings.storage.retention_days)
                await serving.run(server, options.address, running_map, stopping)


@contextlib.asynccontextmanager
async def _transport(keys: keyring.Keyring | None) -> AsyncIterator[PipelinedTransport]:
    transport = PipelinedTransport(keys)
    try:
        yield transport
    finally:
        transport.close()


def _built(
    settings: config.Config, options: Options, journal: SqliteJournal, transport: PipelinedTransport
) -> tuple[LoggingNode, Replicator]:
    core = Core(
        options.address,
        journal.opened,
        settings.service_ips.logging_service,
        Settings(assemble_s=settings.storage.assemble_s, min_in_sync=settings.storage.min_in_sync),
        now_s=asyncio.get_running_loop().time(),
    )
    replicator = Replicator(core, journal, transport, settings.registry.addresses)
    anti_entropy = AntiEntropy(core, journal, transport)
    return LoggingNode(options.address, options.engine, journal, replicator, anti_entropy), replicator


@dataclass(frozen=True, slots=True)
class _Serving:
    """A logging node that serves until it must stop."""

    node: LoggingNode
    journal: SqliteJournal
    replicator: Replicator
    retention_days: float

    async def run(self, server: Server, address: str, running_map: RunningMap, stopping: "asyncio.Task[Any]") -> None:
        """Serve until `stopping` ends, or the node cannot continue.

        Raises:
            FatalError: the journal or the Hazelcast member was lost.
        """
        stop = asyncio.Event()
        listening = asyncio.create_task(_serve(server, address, stop))
        working = asyncio.create_task(self._serve_clients(running_map, {stopping, listening}))
        await asyncio.wait({stopping, listening, working}, return_when=asyncio.FIRST_COMPLETED)
        if not self.node.is_open:
            working.cancel()
        try:
            with contextlib.suppress(asyncio.CancelledError):
                await working
        finally:
            stop.set()
            await listening

    async def _serve_clients(self, running_map: RunningMap, ends: "set[asyncio.Task[Any]]") -> None:
        checking = asyncio.create_task(self.journal.check())  # while the member starts: each of them takes seconds
        async with running_map as lost:
            await checking
            self.node.opened()
            background = [
                asyncio.create_task(self.node.compare_journals()),
                asyncio.create_task(retention.run(self.journal, self.retention_days)),
            ]
            failures = {lost, asyncio.create_task(self._disk_failed())}
            done, _ = await asyncio.wait({*ends, *failures}, return_when=asyncio.FIRST_COMPLETED)
            self.node.leave()
            for task in background:
                task.cancel()
            await self.replicator.leave(timeout_s=LEAVE_S)
            if failed := done & failures:
                raise FatalError(str(failed.pop().result()))

    async def _disk_failed(self) -> str:
        await self.journal.broken.wait()
        return f"the journal cannot be used any more: {self.journal.why}"


@contextlib.asynccontextmanager
async def _running_map(
    settings: config.Config, options: Options, node: LoggingNode, transport: PipelinedTransport, metrics: NodeMetrics
) -> AsyncIterator["asyncio.Future[str]"]:
    """Run the Hazelcast map, unless the engine is embedded; yields a future of the reason why the map was lost."""
    if options.engine == "embedded":
        log.warning("embedded engine: no Hazelcast cluster, messages are in the journals alone")
        yield asyncio.get_running_loop().create_future()
        return
    membership = await cluster.find_cluster(
        transport,
        settings.registry.addresses,
        options.address,
        launch=settings.hazelcast.launch,
        member=options.member,
    )
    port = hostport.split(options.address)[1]
    storage = settings.storage
    async with cluster.opened(
        membership,
        heap_mb=settings.hazelcast.heap_mb,
        keep_s=int(60 * storage.hot_minutes),
        log_path=options.directory / "logs" / f"hazelcast-{port}.log",
        forming=node.forming,
        observed=metrics.mapped,
    ) as (projection, lost):
        node.project_to(projection, own_member=membership.own or "")
        metrics.count_missed(lambda: projection.missed)
        async with projection.repairing(
            node.repairs_map, lambda: node.recent(storage.hot_minutes, storage.hot_messages)
        ):
            yield lost


if __name__ == "__main__":
    process.entry("nodes", main, serves=True)()
