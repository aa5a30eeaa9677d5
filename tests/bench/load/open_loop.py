"""Load that comes whether or not it is answered (open loop), and load that waits (closed loop), at little cost.

One process of raw asyncio protocols on uvloop sends some 15,000 posts a second; the time of an answer counts from when
its request was due, not from when it could be sent.
"""

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import NamedTuple, cast

from common.config import split
from common.telemetry.quantiles import quantile

TICK_S = 0.005  # between two looks at what is due
CONNECTIONS = 1_500  # at once; what is due when all are busy is not sent
DEADLINE_S = 5.0  # for an answer, then its connection is closed
TEXT = "a message of an ordinary length, some 60 characters of text."


class Shot(NamedTuple):
    """One request: when it was due and was answered (seconds), and how: 0 when it was not."""

    due_s: float
    ended_s: float
    status: int


@dataclass(slots=True)
class Load:
    """What came of it.

    Attributes:
        shots: all that were sent.
        unsent: requests that found no connection.
    """

    shots: list[Shot] = field(default_factory=list)
    unsent: int = 0

    def count(self, status: int) -> int:
        """Requests that were answered so."""
        return sum(shot.status == status for shot in self.shots)

    def quantile_ms(self, status: int, share: float) -> float:
        """Milliseconds in which that share of the answers of this kind came; 0 without any."""
        return 1_000 * quantile(sorted(self.took_s(status)), share)

    def took_s(self, status: int) -> list[float]:
        """Seconds from when each request was due until it was answered so."""
        return [one.ended_s - one.due_s for one in self.shots if one.status == status]


def post(address: str) -> bytes:
    """The bytes of a post to a facade at host:port."""
    body = b'{"msg": "%s"}' % TEXT.encode()
    head = f"POST /facade HTTP/1.1\r\nHost: {address}\r\nContent-Type: application/json\r\nContent-Length: {len(body)}"
    return head.encode() + b"\r\n\r\n" + body


class Client(asyncio.Protocol):
    """A connection; `idle` is called with it when it may send, `gone` when it is closed."""

    def __init__(self, load: Load, idle: Callable[["Client"], None], gone: Callable[["Client"], None]) -> None:
        self._load = load
        self._idle = idle
        self._gone = gone
        self._transport: asyncio.Transport | None = None
        self._came = b""
        self.due_s: float | None = None

    def send(self, request: bytes, due_s: float) -> None:
        """Send what was due then."""
        assert self._transport
        self.due_s = due_s
        self._transport.write(request)

    def abort(self) -> None:
        """Close it, whatever is under way."""
        if self._transport:
            self._transport.abort()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """It is there."""
        self._transport = cast(asyncio.Transport, transport)  # uvloop's is none by its class
        self._idle(self)

    def data_received(self, data: bytes) -> None:
        """A part of an answer, or all of it."""
        self._came += data
        head, end, body = self._came.partition(b"\r\n\r\n")
        if not end or len(body) < _length(head):
            return
        self._came = b""
        self._end(int(head[9:12]))
        if b"\r\nconnection: close" in head.lower():
            self.abort()
        else:
            self._idle(self)

    def connection_lost(self, _error: Exception | None) -> None:
        """An answer that was waited for will not come."""
        if self.due_s is not None:
            self._end(0)
        self._gone(self)

    def _end(self, status: int) -> None:
        if self.due_s is not None:
            self._load.shots.append(Shot(self.due_s, time.perf_counter(), status))
        self.due_s = None


def _length(head: bytes) -> int:
    """That which the headers give for the body."""
    _, _, rest = head.lower().partition(b"\r\ncontent-length:")
    return int(rest.partition(b"\r\n")[0] or 0)


class _Pool:
    """Connections to one facade."""

    def __init__(self, address: str, load: Load, idle: Callable[[Client], None]) -> None:
        self._host, self._port = split(address)
        self._load = load
        self._idle = idle
        self.open: set[Client] = set()
        self._tasks: set[asyncio.Task[None]] = set()

    def add(self) -> None:
        """One more, soon."""
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
        """Close those whose answer was due before then."""
        for client in [one for one in self.open if one.due_s is not None and one.due_s < since_s]:
            client.abort()

    async def close(self, deadline_s: float = DEADLINE_S) -> None:
        """Wait for the answers that are due, at most so long, then close all."""
        ends_s = time.perf_counter() + deadline_s
        while time.perf_counter() < ends_s and any(one.due_s is not None for one in self.open):
            await asyncio.sleep(TICK_S)
        for client in list(self.open):
            client.abort()
        await asyncio.sleep(TICK_S)


async def open_loop(
    address: str, *, rate: float, seconds: float, connections: int = CONNECTIONS, deadline_s: float = DEADLINE_S
) -> Load:
    """Post `rate` times a second to host:port, at even times."""
    load, request = Load(), post(address)
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
    """One that is still there, taken from those that are free."""
    while free:
        if (client := free.pop()) in pool.open:
            return client
    return None


async def closed_loop(address: str, *, connections: int, seconds: float) -> Load:
    """Post to host:port over so many connections, each as soon as it has its answer."""
    load, request, ends_s = Load(), post(address), time.perf_counter() + seconds

    def idle(client: Client) -> None:
        if (now_s := time.perf_counter()) < ends_s:
            client.send(request, now_s)

    pool = _Pool(address, load, idle)
    for _ in range(connections):
        pool.add()
    await asyncio.sleep(seconds)
    await pool.close()
    return load
