"""`python -m facade`: plain HTTP in front of the nodes."""

import signal
import socket
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import NamedTuple

import click
import structlog
from msgspec.structs import replace

from common import config, descriptors, exposure, keyring, process
from facade import presence
from facade.api.app import create_app
from facade.api.intake import Intake
from facade.auth.access import Access
from facade.auth.tokens import Tokens
from facade.client import failure_detector
from facade.client.client import Client
from facade.client.failure_detector import Suspects
from facade.client.retry import Limits
from facade.client.session import Session
from facade.client.transport import GreenletTransport
from facade.documents import page
from facade.documents.documents import of_facade
from facade.documents.limits import of as limits_of
from facade.meter import Meter
from facade.server import server
from facade.server import workers as processes
from facade.server.scheduler import Scheduler
from facade.status.metrics import FacadeMetrics
from facade.status.monitor import Watch
from facade.status.survey import Survey
from facade.status.traffic import Traffic
from facade.streams import responses
from facade.streams.subscriptions import Live

log = structlog.get_logger()

SENDING_S = 2.0  # beside the deadline of a request, for its answer to be sent when the facade stops


@click.command()
@click.option("--port", type=click.IntRange(1, 65_535), help="Port to listen on instead of that in [facade] address.")
@click.option("--workers", type=click.IntRange(1, 64), help="Instead of [facade] workers.")
@click.option("--config", "path", type=click.Path(path_type=Path), default=config.DEFAULT_PATH, help="Configuration.")
def main(port: int | None, workers: int | None, path: Path) -> None:
    """Take messages and give them back, over HTTP."""
    settings = config.load(path)
    host, configured = config.split(settings.facade.address)
    own = f"{host}:{port or configured}"
    tokens = Tokens(path.parent / settings.security.tokens) if settings.security.tokens else None
    settings = _within_descriptors(settings)
    guards = Guards(tokens, process.keyring_of(settings, path.parent, own))
    warned = exposure.of_facade(own, tokens=tokens is not None)
    listening = processes.listen(host, port or configured)
    log.info("listening", address=own)
    for warning in warned:
        log.warning(warning)
    work = partial(_serve, settings, listening, own, guards, warned)
    count = workers or settings.facade.workers
    if count == 1:
        work()
    else:
        processes.run(count, work, stopping_too=listening.close)  # else the kernel would go on accepting for it


def _within_descriptors(settings: config.Config) -> config.Config:
    """The same with as many connections of clients as the system allows."""
    connections = descriptors.for_clients(settings.limits.connections)
    return replace(settings, limits=replace(settings.limits, connections=connections))


class Guards(NamedTuple):
    """By what clients are known, and by what the other processes."""

    tokens: Tokens | None
    keys: keyring.Keyring | None


def _serve(settings: config.Config, listening: socket.socket, own: str, guards: Guards, warned: Sequence[str]) -> None:
    """Answer requests at `own` (host:port) until this process is told to stop."""
    scheduler = Scheduler()
    stop = scheduler.event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    limits = Limits(settings.facade.attempt_timeout_s, settings.facade.deadline_s)
    transport, registries = GreenletTransport(scheduler, guards.keys), settings.registry.addresses
    suspects, meter = Suspects(), Meter()
    session = Session(lower_s=settings.storage.assemble_s)
    client = Client(scheduler, transport, registries, limits, suspects=suspects, meter=meter, session=session)
    live = Live(scheduler, client, settle_ms=int(2_000 * limits.deadline_s))
    traffic, slots = Traffic(), responses.Slots(settings.facade.streams)
    metrics = FacadeMetrics(meter, suspects, traffic)
    watch = Watch(Survey(scheduler, transport, registries, suspects, meter, traffic=traffic, own=own, warnings=warned))
    documents = of_facade(client, watch, metrics, limits_of(settings), draining=stop.is_set) | page.documents()
    access, intake = Access(guards.tokens, settings.limits.client_rate), Intake(client, settings.limits)
    app = create_app(client, live, slots, documents, metrics=metrics, access=access, intake=intake)
    requests = settings.facade.threads + settings.facade.streams
    serving = server.create(scheduler, app, listening, requests=requests, limits=settings.limits)
    metrics.gauge("threefold_http_queue_length", "Requests that wait for their turn", lambda: server.queued(serving))
    metrics.counter(
        "threefold_http_refused", "Requests refused because too many waited", lambda: server.refused(serving)
    )
    metrics.counter(
        "threefold_session_resets", "Times that no replica had what this facade had seen", lambda: session.lowered
    )
    metrics.gauge("threefold_streams_open", "Answers that go on", lambda: slots.taken)
    for run in (
        partial(failure_detector.run, transport, suspects, stop),
        partial(watch.run, stop),
        partial(presence.run, transport, registries, own, stop),
    ):
        scheduler.spawn(run)
    # Live streams have no end of their own.
    server.run(serving, stop, drain_s=limits.deadline_s + SENDING_S, stopping_too=live.stop)


if __name__ == "__main__":
    process.entry("facade", main)()
