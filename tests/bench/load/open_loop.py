"""Open loop load, which keeps its rate whether or not it is answered, and closed loop load, which waits for answers.

One process with raw asyncio protocols on uvloop sends about 15,000 posts a second. Latency is measured from the moment
at which a request was due, not from when it could be sent.
"""

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import NamedTuple, cast

from common.hostport import split
from common.telemetry.quantiles import quantile

TICK_S = 0.005  # between two rounds of sending due requests
CONNECTIONS = 1_500  # at most; a request that is due while all are busy is not sent
DEADLINE_S = 5.0  # for an answer; then the connection is closed
TEXT = "a message of an ordinary length, some 60 characters of text."


class Shot(NamedTuple):
    """One request: when it was due and when it ended (seconds), and its HTTP status; 0 if it got no answer."""

    due_s: float
    ended_s: float
    status: int


@dataclass(slots=True)
class LoadResult:
    """The result of a load.

    Attributes:
        shots: all requests that were sent and have ended.
        unsent: how many requests were not sent because all connections were busy.
    """

    shots: list[Shot] = field(default_factory=list)
    unsent: int = 0

    def count(self, status: int) -> int:
        """How many requests were answered with this status."""
        return sum(shot.status == status for shot in self.shots)

    def quantile_ms(self, status: int, share: float) -> float:
        """A latency quantile of the answers with this status, in milliseconds; 0 if there are none."""
        return 1_000 * quantile(sorted(self.took_s(status)), share)

    def took_s(self, status: int) -> list[float]:
        """Latencies of the answers with this status, in seconds from when each request was due."""
        return [one.ended_s - one.due_s for one in self.shots if one.status == status]


def post(address: str) -> bytes:
    """The bytes of one POST to the facade at host:port."""
    body = b'{"msg": "%s"}' % TEXT.encode()
    head = f"POST /facade HTTP/1.1\r\nHost: {address}\r\nContent-Type: application/json\r\nContent-Length: {len(body)}"
    return head.encode() + b"\r\n\r\n" + body


class Client(asyncio.Protocol):
    """One connection; `idle` is called with it when it can send a request, `gone` when it is closed."""

    def __init__(self, load: LoadResult, idle: Callable[["Client"], None], gone: Callable[["Client"], None]) -> None:
        self._load = load
        self._idle = idle
        self._gone = gone
        self._transport: asyncio.Transport | None = None
        self._received = b""
        self.due_s: float | None = None

    def send(self, request: bytes, due_s: float) -> None:
        """Send a request that was due at `due_s`."""
        assert self._transport
        self.due_s = due_s
        self._transport.write(request)

    def abort(self) -> None:
        """Close the connection at once, even if an answer is outstanding."""
        if self._transport:
            self._transport.abort()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Report the new connection as idle."""
        self._transport = cast(asyncio.Transport, transport)  # uvloop's class is no subclass of it
        self._idle(self)

    def data_received(self, data: bytes) -> None:
        """Collect an answer, and record it when it is complete."""
        self._received += data
        head, end, body = self._received.partition(b"\r\n\r\n")
        if not end or len(body) < _length(head):
            return
        self._received = b""
        self._end(int(head[9:12]))
        if b"\r\nconnection: close" in head.lower():
            self.abort()
        else:
            self._idle(self)

    def connection_lost(self, _error: Exception | None) -> None:
        """Record an outstanding request as unanswered."""
        if self.due_s is not None:
            self._end(0)
        self._gone(self)

    def _end(self, status: int) -> None:
        """Record how the outstanding request ended, if there is one."""
        if self.due_s is not None:
            self._load.shots.append(Shot(self.due_s, time.perf_counter(), status))
        self.due_s = None


def _length(head: bytes) -> int:
    """The Content-Length of an answer; 0 without one."""
    _, _, rest = head.lower().partition(b"\r\ncontent-length:")
    return int(rest.partition(b"\r\n")[0] or 0)


class _Pool:
    """The open connections to one facade."""

    def __init__(self, address: str, load: LoadResult, idle: Callable[[Client], None]) -> None:
        self._host, self._port = split(address)
        self._load = load
        self._idle = idle
        self.open: set[Client] = set()
        self._tasks: set[asyncio.Task[None]] = set()

    def add(self) -> None:
        """Begin to open one more connection."""
        client = Client(self._load, self._idle, self.open.discard)
        self.open.add(client)
        task = asyncio.create_task(self._connect(client))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _connect(self, client: Client) -> None:
        try:
            await asyncio.get_running_loop().create_connection(lambda: client, self._host, self._port)
        except OSError:
            client.connection_lost(None)

    def cut(self, since_s: float) -> None:
        """Close connections whose outstanding request was due before `since_s`."""
        for client in [one for one in self.open if one.due_s is not None and one.due_s < since_s]:
            client.abort()

    async def close(self, deadline_s: float = DEADLINE_S) -> None:
        """Wait for outstanding answers, at most for `deadline_s`, then close all connections."""
        ends_s = time.perf_counter() + deadline_s
        while time.perf_counter() < ends_s and any(one.due_s is not None for one in self.open):
            await asyncio.sleep(TICK_S)
        for client in list(self.open):
            client.abort()
        await asyncio.sleep(TICK_S)


async def open_loop(
    address: str, *, rate: float, seconds: float, connections: int = CONNECTIONS, deadline_s: float = DEADLINE_S
) -> LoadResult:
    """Post `rate` times a second to host:port, at even intervals."""
    load, request = LoadResult(), post(address)
    free: list[Client] = []
    waiting: list[float] = []

    def idle(client: Client) -> None:
        if waiting:
            client.send(request, waiting.pop(0))
        else:
            free.append(client)

    pool = _Pool(address, load, idle)
    began_s, sent = time.perf_counter(), 0
    while (now_s := time.perf_counter()) < began_s + seconds:
        for number in range(sent, int((now_s - began_s) * rate)):
            sent += 1
            due_s = began_s + number / rate
            if client := _usable(free, pool):
                client.send(request, due_s)
            elif len(pool.open) < connections:
                waiting.append(due_s)
                pool.add()
            else:
                load.unsent += 1
        pool.cut(now_s - deadline_s)
        await asyncio.sleep(TICK_S)
    await pool.close(deadline_s)
    return load


def _usable(free: list[Client], pool: _Pool) -> Client | None:
    """Take an idle connection that is still open; None if there is none."""
    while free:
        if (client := free.pop()) in pool.open:
            return client
    return None


async def closed_loop(address: str, *, connections: int, seconds: float) -> LoadResult:
    """Post to host:port over some connections, each of which posts again as soon as it has its answer."""
    load, request, ends_s = LoadResult(), post(address), time.perf_counter() + seconds

    def idle(client: Client) -> None:
        if (now_s := time.perf_counter()) < ends_s:
            client.send(request, now_s)

    pool = _Pool(address, load, idle)
    for _ in range(connections):
        pool.add()
    await asyncio.sleep(seconds)
    await pool.close()
    return load
