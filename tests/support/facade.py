"""A facade in front of nodes and registries in memory, with a clock that only waits move."""

import asyncio
import socket
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress

import msgspec
from falcon import testing

from common import config, ids
from common.protocol.codec import Reply, Request
from common.protocol.messages import Entry, Lookup
from common.rpc.memory import MemoryTransport
from common.rpc.transport import Transport
from facade.api import body
from facade.api.documents import MakeDocument, client_limits, facade_documents
from facade.app import create_app
from facade.auth.access import Access
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
from tests.support.memory_node import MemoryNode, SharedTables, listed_by

NODES = ("127.0.0.1:5002", "127.0.0.1:5003", "127.0.0.1:5004")
REGISTRY, OTHER_REGISTRY, MESSAGES = "127.0.0.1:5005", "127.0.0.1:5105", "127.0.0.1:5001"


class PassingTime(Scheduler):
    """A scheduler whose sleeps take no time: they only move a clock.

    Args:
        passed: called with the seconds of each sleep.
    """

    def __init__(self, passed: Callable[[float], object]) -> None:
        super().__init__()
        self._passed = passed

    def sleep(self, seconds: float) -> None:
        """See Scheduler: the others have their turn."""
        self._passed(seconds)
        super().sleep(0.0)


LIMITS = client_limits(msgspec.structs.replace(config.load(), facade=config.Facade(streams=4)))


class World:
    """A whole system in memory: three nodes that share their tables, and a clock that only waits move.

    Leases do not lapse: the clock of the registry stands still.

    Args:
        node: makes a node of its address and the tables.
    """

    def __init__(self, node: Callable[[str, SharedTables], MemoryNode] = MemoryNode) -> None:
        self.now = 0.0
        self.tables = SharedTables()
        self.nodes = {address: node(address, self.tables) for address in NODES}
        registry = Directory(
            {"messages-service": (MESSAGES,), "logging-service": NODES, "facade": ()},
            {"hazelcast-clients": config.load().hazelcast.clients},
            clock=lambda: 0.0,
        )
        asyncio.run(listed_by(registry, NODES))
        handlers = {address: node.handle for address, node in self.nodes.items()}
        handlers |= {REGISTRY: registry.handle, OTHER_REGISTRY: registry.handle, MESSAGES: messages.handle}
        self.scheduler = PassingTime(self.sleep)
        self.transport = MemoryTransport(handlers, sleep=self.sleep)
        self.carrier: Transport | None = None  # used instead of the transport, for twins that block
        self.detector = FailureDetector()
        self.statistics = NodeStatistics()
        registries = [REGISTRY, OTHER_REGISTRY]
        collector = StatusCollector(self.scheduler, self.transport, registries, self.detector, self.statistics)
        self.monitor = StatusMonitor(collector)
        self.metrics = FacadeMetrics(self.statistics, self.detector, collector.request_rate)
        self.client = self.client_with(Session(clock=lambda: self.now))

    def client_with(self, session: Session) -> Client:
        """A client of this system, as it is now, that asks nodes in the order in which the registry names them."""
        return Client(
            self.scheduler,
            self.carrier or self.transport,
            [REGISTRY, OTHER_REGISTRY],
            RetryPolicy(attempt_timeout_s=1.0, deadline_s=10.0),
            detector=self.detector,
            statistics=self.statistics,
            session=session,
            clock=lambda: self.now,
            shuffled=lambda found: found,
        )

    def store(self, entries: Sequence[Entry]) -> None:
        """Messages that the first node accepts, past the facade."""
        asyncio.run(self.nodes[NODES[0]].store(entries))

    @property
    def documents(self) -> dict[str, MakeDocument]:
        """Whole answers of a facade."""
        return facade_documents(self.client, self.monitor, self.metrics, LIMITS)

    def http(
        self,
        slots: StreamSemaphore | None = None,
        *,
        new_id: Callable[[], str] = ids.new_id,
        draining: Callable[[], bool] = lambda: False,
        access: Access | None = None,
        taken: config.Limits = body.DEFAULT,
    ) -> testing.TestClient:
        """A facade in front of it."""
        documents = facade_documents(self.client, self.monitor, self.metrics, LIMITS, draining=draining)
        live = Subscriptions(self.scheduler, self.client)
        return testing.TestClient(
            create_app(
                self.client,
                live,
                slots or StreamSemaphore(4),
                documents,
                metrics=self.metrics,
                access=access,
                limits=taken,
                new_id=new_id,
            )
        )

    def asked(self) -> list[str]:
        """Which addresses were tried, without the registry."""
        return [address for address, request in self.transport.called if not isinstance(request, Lookup)]

    def sleep(self, seconds: float) -> None:
        """Time passes."""
        self.now += seconds


FILLERS = 32  # threads


def _tell(waiting: socket.socket) -> None:
    with suppress(OSError):  # nobody waits any more
        waiting.send(b"x")


class InThreads:
    """Calls a transport in threads, while the loop of a facade turns: for in-memory twins that block.

    Args:
        scheduler: of the greenlets that call.
        transport: carries a request in the thread of its caller.
    """

    def __init__(self, scheduler: Scheduler, transport: Transport) -> None:
        self._scheduler = scheduler
        self._transport = transport
        self._threads = ThreadPoolExecutor(FILLERS)

    def call(self, address: str, request: Request, *, timeout_s: float) -> Reply:
        """See Transport."""
        ended, (told, tell) = self._scheduler.event(), socket.socketpair()
        with told, tell:
            reply = self._threads.submit(self._transport.call, address, request, timeout_s=timeout_s)
            reply.add_done_callback(lambda _: _tell(tell))
            self._scheduler.add_reader(told.fileno(), ended.set)
            try:
                ended.wait()
            finally:
                self._scheduler.remove_reader(told.fileno())
        return reply.result()
