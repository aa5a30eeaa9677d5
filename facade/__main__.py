"""`python -m facade`: serves the HTTP interface in front of the nodes."""

import os
import signal
import socket
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import click
import structlog
from msgspec.structs import replace

from common import config, descriptors, hostport, process
from common.discovery.registration import Registration
from common.rpc.pipelined import PipelinedTransport, WaitingTransport
from common.security import exposure, keyring
from common.settings.option import config_option
from facade import workers as worker_processes
from facade.api.content.entries import EntryMaker
from facade.api.documents import client_limits, facade_documents
from facade.api.page.files import page_documents
from facade.app import create_app
from facade.auth.access import Access
from facade.auth.origins import Origins
from facade.auth.tokens import Tokens
from facade.client.client import Client
from facade.client.failure_detector import FailureDetector, run_probes
from facade.client.node_statistics import NodeStatistics
from facade.client.retry import RetryPolicy
from facade.client.session import Session
from facade.server import server
from facade.server.scheduler import Event, Scheduler
from facade.status.collector import StatusCollector
from facade.status.metrics import FacadeMetrics
from facade.status.monitor import StatusMonitor
from facade.status.request_rate import RequestRate
from facade.streams.responses import StreamSemaphore
from facade.streams.subscriptions import Subscriptions

log = structlog.get_logger()

IN_FLIGHT = 512  # requests to one address; a node accepts 768 from all clients (nodes.service.CLIENT_REQUESTS)
SENDING_S = 2.0  # added to the deadline of a request when the facade stops: time to send its response


class Guards(NamedTuple):
    """Client tokens and process keys, None unless configured, and warnings about unprotected interfaces."""

    tokens: Tokens | None
    keys: keyring.Keyring | None
    warnings: Sequence[str]


@click.command()
@click.option("--port", type=click.IntRange(1, 65_535), help="Port to listen on instead of that in [facade] address.")
@click.option("--workers", type=click.IntRange(1, 64), help="Number of worker processes, instead of [facade] workers.")
@config_option
def main(port: int | None, workers: int | None, path: Path) -> None:
    """Store and read messages over HTTP."""
    settings = config.load(path, os.environ)
    host, configured = hostport.split(settings.facade.address)
    own = hostport.join(host, port or configured)
    tokens = Tokens(path.parent / settings.security.tokens) if settings.security.tokens else None
    settings = _within_descriptors(settings)
    guards = Guards(
        tokens,
        process.keyring_of(settings, path.parent, own),
        exposure.of_facade(own, tokens=tokens is not None),
    )
    listening = worker_processes.listen(host, port or configured)
    log.info("listening", address=own)
    for warning in guards.warnings:
        log.warning(warning)
    work = partial(_serve, settings, listening, own, guards)
    count = workers or settings.facade.workers
    if count == 1:
        work()
    else:
        worker_processes.run(count, work, on_stop=listening.close)  # else the kernel keeps accepting


def _within_descriptors(settings: config.Config) -> config.Config:
    """The configuration, with the connection limit reduced to the number of available file descriptors."""
    connections = descriptors.for_clients(settings.limits.connections)
    return replace(settings, limits=replace(settings.limits, connections=connections))


def _serve(settings: config.Config, listening: socket.socket, own: str, guards: Guards) -> None:
    """Serve requests at `own` (host:port) until SIGTERM or SIGINT."""
    scheduler = Scheduler()
    stop = scheduler.event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    policy = RetryPolicy(settings.facade.attempt_timeout_s, settings.facade.deadline_s)
    pipelines = PipelinedTransport(guards.keys, scheduler, in_flight=IN_FLIGHT)
    transport, registries = WaitingTransport(pipelines, scheduler.wait), settings.registry.addresses
    detector, statistics, request_rate = FailureDetector(), NodeStatistics(), RequestRate()
    session = Session(reset_after_s=settings.storage.assemble_s)
    client = Client(scheduler, transport, registries, policy, detector=detector, statistics=statistics, session=session)
    subscriptions = Subscriptions(scheduler, client, max_store_ms=int(2_000 * policy.deadline_s))
    streams = StreamSemaphore(settings.facade.streams)
    metrics = FacadeMetrics(statistics, detector, request_rate)
    monitor = StatusMonitor(
        StatusCollector(
            scheduler,
            transport,
            registries,
            detector,
            statistics,
            request_rate=request_rate,
            own=own,
            warnings=guards.warnings,
        )
    )
    documents = facade_documents(client, monitor, metrics, client_limits(settings), draining=stop.is_set)
    app = create_app(
        client,
        subscriptions,
        streams,
        documents | page_documents(),
        metrics=metrics,
        access=Access(guards.tokens, settings.limits.client_rate),
        origins=_origins(settings, own),
        limits=settings.limits,
        maker=EntryMaker(retention_days=settings.storage.retention_days),
    )
    requests = settings.facade.threads + settings.facade.streams
    serving = server.create(scheduler, app, listening, requests=requests, limits=settings.limits)
    _add_metrics(metrics, serving, session, streams)
    scheduler.spawn(run_probes, transport, detector, stop)
    scheduler.spawn(monitor.run, stop)
    _register(Registration(scheduler, pipelines, registries, name="facade", address=own), own, stop)
    # Event streams never end on their own, so `on_stop` ends them.
    server.run(serving, stop, drain_s=policy.deadline_s + SENDING_S, on_stop=subscriptions.stop)


def _origins(settings: config.Config, own: str) -> Origins:
    """Which pages may use this facade. With tokens every host is known, because a page of another site has no token."""
    host = hostport.split(own)[0]
    return Origins(
        None if settings.security.tokens else (host, *settings.facade.hosts),
        any_address=host in hostport.EVERYWHERE or hostport.is_name(host),
        allowed=settings.facade.cors_origins,
    )


def _add_metrics(metrics: FacadeMetrics, serving: Any, session: Session, streams: StreamSemaphore) -> None:
    metrics.gauge("threefold_http_queue_length", "Requests that wait for their turn", lambda: server.queued(serving))
    metrics.counter(
        "threefold_http_refused", "Requests refused because too many waited", lambda: server.refused(serving)
    )
    metrics.counter(
        "threefold_session_resets", "Resets of the session, which no replica could serve", lambda: session.resets
    )
    metrics.gauge("threefold_streams_open", "Open streams", lambda: streams.open)


def _register(registration: Registration, own: str, stop: Event) -> None:
    """Keep this facade registered until it stops; one that listens on all addresses has no address to register."""
    if hostport.split(own)[0] not in hostport.EVERYWHERE:
        registration.renew()
        stop.then(registration.deregister)


if __name__ == "__main__":
    process.entry("facade", main, serves=True)()
