"""Real servers for tests: of our protocol, in a thread or in the running loop, and of HTTP."""

import asyncio
import contextlib
import http.client
import socket
import threading
import urllib.request
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, closing, contextmanager
from dataclasses import dataclass
from typing import Any

from common.config import Limits
from common.errors import PeerError, StoreError
from common.hostport import split
from common.protocol.codec import Reply, Request
from common.protocol.messages import Code, Description, Failure, Lookup, Ping, State, Status
from common.rpc.handler import Handler
from common.rpc.pooled import PooledTransport
from common.rpc.server import Server
from common.rpc.transport import Transport
from common.security.keyring import Keyring
from facade import workers
from facade.server import server as http_server
from facade.server.parser import DEFAULT
from facade.server.scheduler import Scheduler
from scripts.launcher.ports import free_addresses

READY = Status(service="test", state=State.READY)

Application = Callable[..., Any]
Serve = Callable[[Application], str]  # of the fixture `serve`: answers with an application; returns its host:port


async def handle(request: Request) -> Reply:
    """Answer Ping and Describe; a Lookup fails in the way that its name says."""
    match request:
        case Ping():
            return READY
        case Lookup(name="store"):
            raise StoreError("the store is away")
        case Lookup(name="defect"):
            raise ZeroDivisionError
        case Lookup(name="hang"):
            await asyncio.Event().wait()
        case Lookup(name="refuse"):
            return Failure(code=Code.STARTING, reason="not yet")
    return Description(text="hi")


def reply_or_none(transport: Transport, address: str) -> Reply | None:
    """The reply to a ping; None if the address cannot be reached."""
    try:
        return transport.call(address, Ping(), timeout_s=1.0)
    except PeerError:
        return None


@contextmanager
def pooled(ring: Keyring | None) -> Iterator[PooledTransport]:
    """A transport with the keys of a keyring, closed at the end."""
    with closing(PooledTransport(ring)) as transport:
        yield transport


@contextmanager
def serving(handler: Handler, *, address: str | None = None, **options: Any) -> Iterator[str]:
    """The address of a Server in a thread of its own; `options` are those of Server. It is drained at the end."""
    listening = address or free_addresses(1)[0]
    with running_in_thread(Server(listening, handler, **options)):
        yield listening


@contextmanager
def running_in_thread(server: Server) -> Iterator[None]:
    """Serve from a thread of its own during the block, then drain the server."""
    started = threading.Event()
    control: list[tuple[asyncio.AbstractEventLoop, asyncio.Event]] = []

    async def serve() -> None:
        stop = asyncio.Event()
        control.append((asyncio.get_running_loop(), stop))
        started.set()
        await server.serve(stop)

    thread = threading.Thread(target=asyncio.run, args=(serve(),))
    thread.start()
    assert started.wait(5.0)
    try:
        yield
    finally:
        loop, stop = control[0]
        loop.call_soon_threadsafe(stop.set)
        thread.join()


@asynccontextmanager
async def serving_in_loop(
    handler: Handler, address: str | None = None, *, peer_in_flight: int = 100, **options: Any
) -> AsyncIterator[str]:
    """The address of a Server in the running loop; `options` are those of Server. It is drained at the end."""
    address, stop = address or free_addresses(1)[0], asyncio.Event()
    server = Server(address, handler, peer_in_flight=peer_in_flight, **options)
    task = asyncio.create_task(server.serve(stop))
    try:
        yield address
    finally:
        stop.set()
        await task


@dataclass(frozen=True, slots=True)
class HttpServer:
    """The HTTP server of a facade, in a thread of its own.

    Attributes:
        address: host:port at which it listens.
        server: what `facade.server.server.create` returned.
    """

    address: str
    server: Any


def respond(start_response: Callable[..., Any], status: str, body: bytes, *headers: tuple[str, str]) -> list[bytes]:
    """Answer a request of a WSGI application."""
    start_response(status, [*headers, ("Content-Length", str(len(body)))])
    return [body]


def hello(_environ: dict[str, Any], start_response: Callable[..., Any]) -> list[bytes]:
    """Answer every request with the same five bytes."""
    return respond(start_response, "200 OK", b"hello", ("Content-Type", "text/plain"))


@contextmanager
def serving_http(
    application: Application,
    limits: Limits = DEFAULT,
    scheduler: Scheduler | None = None,
    *,
    on_stop: Callable[[], object] = lambda: None,
) -> Iterator[HttpServer]:
    """An HTTP server that runs two requests at once; it stops and drains at the end, and calls `on_stop` first."""
    (address,) = free_addresses(1)
    scheduler = scheduler or Scheduler()
    made = http_server.create(scheduler, application, workers.listen(*split(address)), requests=2, limits=limits)
    stop = scheduler.event()
    thread = threading.Thread(target=http_server.run, args=(made, stop), kwargs={"drain_s": 10.0, "on_stop": on_stop})
    thread.start()
    try:
        yield HttpServer(address, made)
    finally:
        stop.set()
        thread.join()


def get(connection: socket.socket) -> bytes:
    """The body of the response to a GET; the connection is kept."""
    connection.sendall(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
    with http.client.HTTPResponse(connection) as response:
        response.begin()
        return response.read()


def raw_response(address: str, sent: bytes) -> tuple[int, dict[str, str], bytes]:
    """Status, headers and body of the response to raw bytes, after which the server must close the connection."""
    with socket.create_connection(split(address), timeout=10.0) as connection:
        connection.sendall(sent)
        response = http.client.HTTPResponse(connection)
        response.begin()
        body = response.read()
        with contextlib.suppress(ConnectionResetError):  # the server closed it while the client was still sending
            assert b"" == connection.recv(1)
        return response.status, {name.lower(): value for name, value in response.getheaders()}, body


def scrape(address: str) -> str:
    """The page of metrics at an address."""
    with urllib.request.urlopen(f"http://{address}/metrics", timeout=10) as response:
        text: str = response.read().decode()
    return text


def metric_values(page: str) -> dict[str, float]:
    """The value of each series on a page of metrics, by its name with its labels."""
    return {
        name: float(value)
        for line in page.splitlines()
        if not line.startswith("#")
        for name, _, value in [line.rpartition(" ")]
    }
