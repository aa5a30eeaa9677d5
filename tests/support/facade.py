"""A whole system in memory for tests of the facade, with a clock that only waits move."""

import asyncio
import socket
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress

import msgspec
from falcon import testing

from common import config, ids
from common.protocol.codec import Reply, Request
from common.protocol.content import Entry
from common.protocol.messages import Lookup
from common.rpc.memory import MemoryTransport
from common.rpc.transport import Transport
from facade.api import body
from facade.api.content.entries import EntryMaker
from facade.api.documents import MakeDocument, client_limits, facade_documents
from facade.app import create_app
from facade.auth.access import Access
from facade.auth.origins import Origins
from facade.client.client import Client
from facade.client.failure_detector import FailureDetector
from facade.client.node_statistics import NodeStatistics
from facade.client.retry import RetryPolicy
from facade.client.session import Session
from facade.server.scheduler import Scheduler
from facade.status.collector import StatusCollector
from facade.status.metrics import FacadeMetrics
from facade.status.monitor import StatusMonitor
from facade.streams.responses import StreamSemaphore
from facade.streams.subscriptions import Subscriptions
from nodes import messages
from registry.directory import Directory
from tests.support.memory_node import MemoryNode, SharedTables, register_nodes

NODES = ("127.0.0.1:5002", "127.0.0.1:5003", "127.0.0.1:5004")
REGISTRY, OTHER_REGISTRY, MESSAGES = "127.0.0.1:5005", "127.0.0.1:5105", "127.0.0.1:5001"

CLIENT_LIMITS = client_limits(msgspec.structs.replace(config.load(), facade=config.Facade(streams=4)))
THREADS = 32  # for calls that block at the same time


class InstantScheduler(Scheduler):
    """A scheduler whose sleeps take no time.

    Args:
        on_sleep: called with the seconds of each sleep, to move a clock.
    """

    def __init__(self, on_sleep: Callable[[float], object]) -> None:
        super().__init__()
        self._on_sleep = on_sleep

    def sleep(self, seconds: float) -> None:
        """Let the other greenlets run once."""
        self._on_sleep(seconds)
        super().sleep(0.0)


class ManualScheduler(Scheduler):
    """A scheduler whose clock, in seconds, a test moves."""

    now_s = 0.0

    def time(self) -> float:
        """The time that the test has set."""
        return self.now_s


class MemorySystem:
    """A facade, two registries and three nodes that share their tables, all in memory.

    The clock of the registries stands still, so no lease lapses.

    Args:
        new_node: makes a node from its address and the shared tables.
        threaded: clients call from threads, so that the loop turns while a node keeps a request waiting.

    Attributes:
        now_s: the time, which only waits move.
        transport: carries requests in memory, and can kill, hang and cut an address.
    """

    def __init__(
        self, new_node: Callable[[str, SharedTables], MemoryNode] = MemoryNode, *, threaded: bool = False
    ) -> None:
        self.now_s = 0.0
        self.tables = SharedTables()
        self.nodes = {address: new_node(address, self.tables) for address in NODES}
        registry = Directory(
            {"messages-service": (MESSAGES,), "logging-service": NODES, "facade": ()},
            {"hazelcast-clients": config.load().hazelcast.clients},
            clock=lambda: 0.0,
        )
        asyncio.run(register_nodes(registry, NODES))
        handlers = {address: node.handle for address, node in self.nodes.items()}
        handlers |= {REGISTRY: registry.handle, OTHER_REGISTRY: registry.handle, MESSAGES: messages.handle}
        self.scheduler = InstantScheduler(self.advance)
        self.transport = MemoryTransport(handlers, sleep=self.advance)
        self._threaded = threaded
        self.detector = FailureDetector()
        self.statistics = NodeStatistics()
        registries = [REGISTRY, OTHER_REGISTRY]
        self.collector = StatusCollector(self.scheduler, self.transport, registries, self.detector, self.statistics)
        self.monitor = StatusMonitor(self.collector)
        self.metrics = FacadeMetrics(self.statistics, self.detector, self.collector.request_rate)
        self.client = self.new_client(Session(clock=lambda: self.now_s))

    def new_client(self, session: Session) -> Client:
        """A client with this session, which tries nodes in the order in which the registry lists them."""
        return Client(
            self.scheduler,
            ThreadedTransport(self.scheduler, self.transport) if self._threaded else self.transport,
            [REGISTRY, OTHER_REGISTRY],
            RetryPolicy(attempt_timeout_s=1.0, deadline_s=10.0),
            detector=self.detector,
            statistics=self.statistics,
            session=session,
            clock=lambda: self.now_s,
            shuffled=lambda addresses: addresses,
        )

    def store(self, entries: Sequence[Entry]) -> None:
        """Let the first node accept messages without the facade."""
        asyncio.run(self.nodes[NODES[0]].store(entries))

    def store_message(self, text: str, message_id: str | None = None) -> Entry:
        """Let the first node accept one message without the facade."""
        entry = Entry(message_id or ids.new_id(), text)
        self.store([entry])
        return entry

    @property
    def documents(self) -> dict[str, MakeDocument]:
        """The documents of the facade, by path."""
        return facade_documents(self.client, self.monitor, self.metrics, CLIENT_LIMITS)

    def http(
        self,
        streams: StreamSemaphore | None = None,
        *,
        maker: EntryMaker | None = None,
        draining: Callable[[], bool] = lambda: False,
        access: Access | None = None,
        origins: Origins | None = None,
    ) -> testing.TestClient:
        """An HTTP client of a new facade in front of the nodes; for the arguments see `facade.app.create_app`."""
        documents = facade_documents(self.client, self.monitor, self.metrics, CLIENT_LIMITS, draining=draining)
        return testing.TestClient(
            create_app(
                self.client,
                Subscriptions(self.scheduler, self.client),
                streams or StreamSemaphore(4),
                documents,
                metrics=self.metrics,
                access=access,
                origins=origins,
                limits=body.DEFAULT,
                maker=maker,
            )
        )

    def attempts(self) -> list[str]:
        """The addresses of all attempts so far, without lookups at the registries."""
        return [address for address, request in self.transport.called if not isinstance(request, Lookup)]

    def advance(self, seconds: float) -> None:
        """Move the clock."""
        self.now_s += seconds


class ThreadedTransport:
    """Calls a blocking transport from threads, so that the loop of a facade turns meanwhile.

    Args:
        scheduler: of the greenlets that call.
        transport: carries a request in the thread of its caller.
    """

    def __init__(self, scheduler: Scheduler, transport: Transport) -> None:
        self._scheduler = scheduler
        self._transport = transport
        self._threads = ThreadPoolExecutor(THREADS)

    def call(self, address: str, request: Request, *, timeout_s: float) -> Reply:
        """See Transport."""
        ended, (reading, writing) = self._scheduler.event(), socket.socketpair()
        with reading, writing:
            reply = self._threads.submit(self._transport.call, address, request, timeout_s=timeout_s)
            reply.add_done_callback(lambda _: _wake(writing))
            self._scheduler.add_reader(reading.fileno(), ended.set)
            try:
                ended.wait()
            finally:
                self._scheduler.remove_reader(reading.fileno())
        return reply.result()


def _wake(writing: socket.socket) -> None:
    with suppress(OSError):  # the caller has gone, and its socket is closed
        writing.send(b"x")
