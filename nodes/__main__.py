"""`python -m nodes logging --port 5002` and `python -m nodes messages --port 5001`."""

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager
from pathlib import Path

import click

from common import config, process, rpc
from common.errors import FatalError
from nodes import engine, grid, messages
from nodes.log import LoggingNode

log = logging.getLogger("nodes")

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
    config.load(path)
    asyncio.run(_run_messages(f"{host}:{port}"))


@main.command("logging")
@_port
@_host
@_config
@click.option("--engine", "name", type=click.Choice(["hazelcast", "embedded"]), help="Instead of [storage] engine.")
def run_logging(port: int, host: str, path: Path, name: str | None) -> None:
    """Store and read messages, with a Hazelcast member of its own."""
    settings = config.load(path)
    embedded = (name or settings.storage.engine) == "embedded"
    asyncio.run(_run_logging(f"{host}:{port}", settings, path.parent / settings.storage.directory, embedded))


async def _run_messages(address: str) -> None:
    await _serve(rpc.Server(address, messages.handle), address, process.stop_on_signal())


async def _serve(server: rpc.Server, address: str, stop: asyncio.Event) -> None:
    log.info("listening address=%s", address)
    await server.serve(stop)


async def _run_logging(address: str, settings: config.Config, directory: Path, embedded: bool) -> None:
    asyncio.get_running_loop().set_exception_handler(grid.quiet_abandoned_calls)
    node = LoggingNode(address)
    stop = process.stop_on_signal()
    serving = asyncio.create_task(_serve(rpc.Server(address, node.handle), address, stop))
    opening = engine.embedded(directory) if embedded else _hazelcast(address, settings, directory, node)
    storing = asyncio.create_task(_keep_open(node, opening))
    await asyncio.wait({serving, storing}, return_when=asyncio.FIRST_COMPLETED)
    stop.set()
    await serving  # what is in flight is answered while the store is still open
    storing.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await storing


async def _keep_open(node: LoggingNode, opening: AbstractAsyncContextManager[engine.Engine]) -> None:
    async with opening as opened:
        node.open(opened.store)
        log.info("ready members=%s", opened.store.members())
        raise FatalError(await opened.lost)


@contextlib.asynccontextmanager
async def _hazelcast(
    address: str, settings: config.Config, directory: Path, node: LoggingNode
) -> AsyncIterator[engine.Engine]:
    transport, launch = rpc.ZmqTransport(), settings.hazelcast.launch
    cluster = await engine.membership(transport, settings.registry.addresses, address, launch=launch)
    async with engine.hazelcast(
        cluster,
        heap_mb=settings.hazelcast.heap_mb,
        log_path=directory / "logs" / f"hazelcast-{config.split(address)[1]}.log",
        forming=node.forming,
    ) as opened:
        yield opened


if __name__ == "__main__":
    process.entry("nodes", main)()
