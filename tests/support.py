"""What several tests need: servers in a thread, clusters of their own, and a look at what is left running."""

import asyncio
import socket
import threading
import time
from collections.abc import Awaitable, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import psutil

from common import config, ids, rpc
from common.codec import Reply, Request
from common.errors import PeerError
from common.handling import Handler
from common.pool import ZmqTransport
from common.serving import Server
from common.wire import Append, Stored
from facade.server.scheduler import Scheduler
from scripts import keys
from scripts.launcher import Cluster
from scripts.ports import free_addresses, write_config
from scripts.processes import gone

FILL_TRIES = 30  # of one message, at all nodes in turn
FILLERS = 32  # threads that store messages past the facade

T = TypeVar("T")


@contextmanager
def serving(handler: Handler, *, address: str | None = None, **limits: Any) -> Iterator[str]:
    """A real Server, perhaps with other limits, in a thread of its own; its address. Drained at the end."""
    listening = address or free_addresses(1)[0]
    started = threading.Event()
    control: list[tuple[asyncio.AbstractEventLoop, asyncio.Event]] = []

    async def serve() -> None:
        stop = asyncio.Event()
        server = Server(listening, handler, **limits)
        control.append((asyncio.get_running_loop(), stop))
        started.set()
        await server.serve(stop)

    thread = threading.Thread(target=asyncio.run, args=(serve(),))
    thread.start()
    assert started.wait(5.0)
    try:
        yield listening
    finally:
        loop, stop = control[0]
        loop.call_soon_threadsafe(stop.set)
        thread.join()


@contextmanager
def running_cluster(
    folder: Path, *, engine: str, keyed: bool = False, everywhere: bool = False, more: str = "", **kwargs: Any
) -> Iterator[Cluster]:
    """A whole cluster on free ports, with its files in `folder`; every process of it is gone at the end.

    `keyed`: its processes have keys; `everywhere`: its facade listens at all addresses. `more` is what is added to its
    configuration.
    """
    write_config(folder / "config.toml", more=f'[security]\nkeys = "keys"\n{more}' if keyed else more)
    if everywhere:
        path = folder / "config.toml"
        path.write_text(path.read_text().replace('[facade]\naddress = "127.0.0.1:', '[facade]\naddress = "0.0.0.0:'))
    if keyed:
        for name in keys.all_names(config.load(folder / "config.toml")):
            keys.write_pair(folder / "keys", name)
    cluster = Cluster(folder / "config.toml", engine=engine, **kwargs)
    try:
        cluster.up(lambda _line: None)
        yield cluster
    finally:
        tree = [process for status in cluster.status() if status.pid for process in _tree(status.pid)]
        cluster.down()
        cluster.close()
        assert [] == [process for process in tree if alive(process)]


def fill(cluster: Cluster, texts: list[str]) -> None:
    """Store the texts in their order, past the facade, many at once."""
    transport = ZmqTransport()
    nodes = cluster.settings.service_ips.logging_service
    requests = [Append(id=ids.new_id(), msg=text) for text in texts]

    def append(number: int) -> Stored:
        for attempt in range(FILL_TRIES - 1):  # on a busy machine a node may be fenced meanwhile; ids make it safe
            with suppress(PeerError):
                return rpc.ask(transport, nodes[(number + attempt) % len(nodes)], requests[number], Stored, timeout_s=5)
        return rpc.ask(transport, nodes[number % len(nodes)], requests[number], Stored, timeout_s=10.0)

    with ThreadPoolExecutor(FILLERS) as threads:
        assert len(texts) == sum(1 for _ in threads.map(append, range(len(texts))))
    transport.close()


def _tell(waiting: socket.socket) -> None:
    with suppress(OSError):  # nobody waits any more
        waiting.send(b"x")


class InThreads:
    """Calls a transport in threads, while the loop of a facade turns: for in-memory twins that block.

    Args:
        scheduler: of the greenlets that call.
        transport: carries a request in the thread of its caller.
    """

    def __init__(self, scheduler: Scheduler, transport: rpc.Transport) -> None:
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


def eventually(
    probe: Callable[[], T | None], *, timeout_s: float = 20.0, pause: Callable[[], object] | None = None
) -> T:
    """What `probe` returns when it is neither None nor False; a failure when it stays so.

    `pause` is called between two probes, for example to turn a loop; by default it waits for 20 ms.
    """
    ends = time.monotonic() + timeout_s
    pause = pause or partial(threading.Event().wait, 0.02)
    while time.monotonic() < ends:
        if found := probe():
            return found
        pause()
    raise AssertionError(f"not so within {timeout_s} s")


async def becomes(expected: T, probe: Callable[[], Awaitable[T]], *, timeout_s: float = 10.0) -> None:
    """Return when `probe` gives what is expected; a failure when it does not."""
    ends, pause = time.monotonic() + timeout_s, asyncio.Event()
    while (found := await probe()) != expected:
        assert time.monotonic() < ends, f"still {found!r} after {timeout_s} s"
        with suppress(TimeoutError):
            await asyncio.wait_for(pause.wait(), 0.01)


def alive(process: psutil.Process) -> bool:
    """Whether it runs; one that only waits to be reaped does not."""
    return not gone(process)


def _tree(pid: int) -> list[psutil.Process]:
    try:
        process = psutil.Process(pid)
        return [process, *process.children(recursive=True)]
    except psutil.NoSuchProcess:
        return []
