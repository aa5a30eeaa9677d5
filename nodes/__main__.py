"""`python -m nodes logging --port 5002` and `python -m nodes messages --port 5001`."""

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import Any

import click
import structlog
import uvloop

from common import config, exposure, keyring, process, rpc
from common.errors import FatalError
from common.pool import ZmqTransport
from common.serving import Server
from nodes import engine, grid, messages, retention
from nodes.audit import Audit
from nodes.lease import Lease
from nodes.log import LoggingNode
from nodes.metrics import NodeMetrics
from nodes.observers import Observers
from nodes.peers import Peers
from nodes.replicated import Hot

log = structlog.get_logger()

Opening = Callable[[rpc.Transport, LoggingNode, Observers], AbstractAsyncContextManager[engine.Engine]]

_port = click.option("--port", type=click.IntRange(1, 65_535), required=True, help="Port to listen on.")
_host = click.option("--host", default="127.0.0.1", show_default=True, help="Address to listen on.")
_config = click.option(
    "--config", "path", type=click.Path(path_type=Path), default=config.DEFAULT_PATH, help="Configuration."
)


@click.group()
def main() -> None:
    """Run one node."""
    logging.getLogger("hazelcast").setLevel(logging.ERROR)  # it tells each lost connection several times


@main.command("messages")
@_port
@_host
@_config
def run_messages(port: int, host: str, path: Path) -> None:
    """Answer a static text."""
    settings = config.load(path)
    address = _reachable(host, port)
    keys = process.keyring_of(settings, path.parent, address)
    for warning in exposure.of_server(address, keys=keys is not None):
        log.warning(warning)
    uvloop.run(_run_messages(address, settings.registry.addresses, keys))


@main.command("logging")
@_port
@_host
@_config
@click.option("--engine", "name", type=click.Choice(["hazelcast", "embedded"]), help="Instead of [storage] engine.")
@click.option("--member", help="host:port of the member that a node starts which is not in config.toml.")
@click.option("--metrics", help="host:port at which Prometheus finds its metrics, instead of that in [metrics].")
def run_logging(*, port: int, host: str, path: Path, name: str | None, member: str | None, metrics: str | None) -> None:
    """Store and read messages, with a Hazelcast member of its own."""
    settings, address = config.load(path), _reachable(host, port)
    directory = path.parent / settings.storage.directory

    def opening(
        transport: rpc.Transport, node: LoggingNode, observers: Observers
    ) -> AbstractAsyncContextManager[engine.Engine]:
        if (name or settings.storage.engine) == "embedded":
            return _embedded(directory, settings, observers)
        return _hazelcast(
            transport, node, observers, address=address, settings=settings, directory=directory, member=member
        )

    metrics = metrics or config.metrics_of(settings, address)
    keys = process.keyring_of(settings, path.parent, address)
    for warning in exposure.of_server(address, keys=keys is not None):
        log.warning(warning)
    uvloop.run(_run_logging(ZmqTransport(keys), address, settings, opening, keys=keys, scraped=metrics))


def _reachable(host: str, port: int) -> str:
    """The address under which the node is handed out, which is the one that it binds."""
    if host in config.EVERYWHERE:
        raise FatalError(f"--host {host} is no address at which others reach this node: give the one that they use")
    return f"{host}:{port}"


async def _run_messages(address: str, registries: Sequence[str], keys: keyring.Keyring | None) -> None:
    told, stop = process.stop_on_signal(), asyncio.Event()
    serving = asyncio.create_task(_serve(Server(address, messages.handle, keys), address, stop))
    async with Lease(ZmqTransport(keys), registries, name="messages-service", address=address).held():
        await asyncio.wait({asyncio.create_task(told.wait()), serving}, return_when=asyncio.FIRST_COMPLETED)
    stop.set()
    await serving


async def _serve(server: Server, address: str, stop: asyncio.Event) -> None:
    log.info("listening", address=address)
    await server.serve(stop)


async def _run_logging(
    transport: rpc.Transport,
    address: str,
    settings: config.Config,
    opening: Opening,
    *,
    keys: keyring.Keyring | None = None,
    scraped: str | None = None,
) -> None:
    """A logging node, and at host:port `scraped` what Prometheus wants to know of it."""
    asyncio.get_running_loop().set_exception_handler(grid.quiet_abandoned_calls)
    node = LoggingNode(address)
    metrics = NodeMetrics(node.report)
    server = Server(address, metrics.measured(node.handle), keys)
    metrics.count_refused(lambda: server.refused)
    with metrics.served(scraped):
        await _run_node(transport, node, metrics, server, address=address, settings=settings, opening=opening)


async def _run_node(
    transport: rpc.Transport,
    node: LoggingNode,
    metrics: NodeMetrics,
    server: Server,
    *,
    address: str,
    settings: config.Config,
    opening: Opening,
) -> None:
    stop = asyncio.Event()
    told = asyncio.create_task(process.stop_on_signal().wait())
    serving = asyncio.create_task(_serve(server, address, stop))

    async def store() -> None:
        async with opening(transport, node, metrics.observers) as opened:
            node.open(opened.store)
            log.info("ready", members=len(opened.store.view()))
            expiring = asyncio.create_task(retention.run(opened.store, settings.storage.retention_days))
            registries, view = settings.registry.addresses, opened.store.view
            returning = opened.peers.reach_listed if opened.peers else None
            lease = Lease(
                transport, registries, name="logging-service", address=address, view=view, returning=returning
            )
            async with lease.held():
                ends: set[asyncio.Future[Any]] = {told, opened.lost, serving}
                await asyncio.wait(ends, return_when=asyncio.FIRST_COMPLETED)
            node.leave()
            expiring.cancel()
            if opened.peers:
                await opened.peers.hand_over()  # while this node still answers them
            stop.set()
            await serving  # what is in flight is answered while the store is still open
            if opened.lost.done():
                raise FatalError(opened.lost.result())

    storing = asyncio.create_task(store())
    await asyncio.wait({told, storing, serving}, return_when=asyncio.FIRST_COMPLETED)
    if not node.ready:
        storing.cancel()
    try:
        with contextlib.suppress(asyncio.CancelledError):
            await storing
    finally:
        stop.set()
        await serving


@contextlib.asynccontextmanager
async def _embedded(directory: Path, settings: config.Config, observers: Observers) -> AsyncIterator[engine.Engine]:
    async with (
        engine.opened(directory / "messages.sqlite", settings.hazelcast.cluster_name, observers) as journal,
        engine.embedded(journal) as opened,
    ):
        yield opened


@contextlib.asynccontextmanager
async def _hazelcast(
    transport: rpc.Transport,
    node: LoggingNode,
    observers: Observers,
    *,
    address: str,
    settings: config.Config,
    directory: Path,
    member: str | None,
) -> AsyncIterator[engine.Engine]:
    registries, port = settings.registry.addresses, config.split(address)[1]
    async with contextlib.AsyncExitStack() as stack:
        file = directory / f"journal-{port}.sqlite"
        journal = await stack.enter_async_context(engine.opened(file, settings.hazelcast.cluster_name, observers))
        peers = Peers(transport, registries, address=address, journal=journal)
        audit = Audit(journal, peers, retention_days=settings.storage.retention_days)
        node.meet(peers, audit)
        stack.callback(peers.close)
        cluster = await engine.membership(
            transport, registries, address, launch=settings.hazelcast.launch, member=member
        )
        node.own_member = cluster.own or ""
        await peers.learn()
        async with engine.hazelcast(
            cluster,
            journal=journal,
            peers=peers,
            audit=audit,
            hot=Hot(settings.storage.hot_minutes, settings.storage.hot_messages),
            observers=observers,
            heap_mb=settings.hazelcast.heap_mb,
            log_path=directory / "logs" / f"hazelcast-{port}.log",
            forming=node.forming,
        ) as opened:
            auditing = asyncio.create_task(audit.run())
            stack.callback(auditing.cancel)
            yield opened


if __name__ == "__main__":
    process.entry("nodes", main)()
