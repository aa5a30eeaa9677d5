"""`python -m facade`: plain HTTP in front of the nodes."""

import logging
import signal
import threading
from pathlib import Path

import click

from common import config, process, rpc
from facade import server
from facade.app import create_app
from facade.client import Client
from facade.routing import Limits

log = logging.getLogger("facade")


@click.command()
@click.option("--port", type=click.IntRange(1, 65_535), help="Port to listen on instead of that in [facade] address.")
@click.option("--config", "path", type=click.Path(path_type=Path), default=config.DEFAULT_PATH, help="Configuration.")
def main(port: int | None, path: Path) -> None:
    """Take messages and give them back, over HTTP."""
    settings = config.load(path)
    host, configured = config.split(settings.facade.address)
    limits = Limits(settings.facade.attempt_timeout_s, settings.facade.deadline_s)
    transport = rpc.ZmqTransport()
    app = create_app(Client(transport, settings.registry.address, limits))
    serving = server.create(app, host=host, port=port or configured, threads=settings.facade.threads)
    log.info("listening address=%s:%s", host, port or configured)
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    server.run(serving, stop)
    transport.close()


if __name__ == "__main__":
    process.entry("facade", main)()
