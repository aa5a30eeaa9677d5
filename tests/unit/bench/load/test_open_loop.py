"""Tests of tests.bench.load.open_loop against servers that answer in known ways."""

import asyncio
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest
import uvloop

from scripts.launcher.ports import free_addresses
from tests.bench.load import open_loop

Answer = Callable[[int], bytes | None]  # by the number of the request, from 0; None: no answer

GOOD = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
BUSY = b"HTTP/1.1 503 Service Unavailable\r\nConnection: close\r\nContent-Length: 0\r\n\r\n"


@contextmanager
def answering(answer: Answer, *, cut: int = 0) -> Iterator[str]:
    """The address of a server in a thread; with `cut` an answer is sent in two parts, the first of so many bytes."""
    (address,) = free_addresses(1)
    started, ends = threading.Event(), []
    count = 0

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal count
        while await reader.read(65_536):
            data, count = answer(count), count + 1
            for part in (data[:cut], data[cut:]) if data else ():
                writer.write(part)
                await writer.drain()
        writer.close()

    async def run() -> None:
        stop = asyncio.Event()
        ends.append((asyncio.get_running_loop(), stop))
        host, port = address.split(":")
        async with await asyncio.start_server(serve, host, int(port)):
            started.set()
            await stop.wait()

    thread = threading.Thread(target=asyncio.run, args=(run(),))
    thread.start()
    assert started.wait(5.0)
    yield address
    ends[0][0].call_soon_threadsafe(ends[0][1].set)
    thread.join()


@pytest.mark.parametrize("cut", [0, 9, 30, 38])
def test_answers_are_counted_by_their_status(cut: int) -> None:
    """Answers count wherever they are cut, and a connection that the server closes is replaced."""
    with answering(lambda number: BUSY if number % 2 else GOOD, cut=cut) as address:
        load = uvloop.run(open_loop.open_loop(address, rate=100, seconds=0.5))

    assert (0, len(load.shots)) == (load.unsent, load.count(200) + load.count(503))
    assert 40 <= len(load.shots) <= 50
    assert abs(load.count(200) - load.count(503)) <= 1


def test_requests_without_a_free_connection_are_counted_as_unsent() -> None:
    """If all connections are busy for ever, each holds one request, and the others are not sent."""
    with answering(lambda _number: None) as address:
        load = uvloop.run(open_loop.open_loop(address, rate=100, seconds=0.5, connections=3, deadline_s=0.2))

    assert load.unsent > 20
    assert {0} == {shot.status for shot in load.shots}


class Sent(asyncio.Transport):
    """A transport that keeps what is written."""

    def __init__(self) -> None:
        super().__init__()
        self.written: list[object] = []

    def write(self, data: object) -> None:
        """Keep the data."""
        self.written.append(data)


def test_latency_counts_from_when_a_request_was_due() -> None:
    """Otherwise a server that keeps every request waiting would look fast."""
    load, transport = open_loop.LoadResult(), Sent()
    idle: list[open_loop.Client] = []
    client = open_loop.Client(load, idle.append, lambda _client: None)
    client.connection_made(transport)
    client.send(b"a request", time.perf_counter() - 2.0)
    client.data_received(GOOD[:30])
    assert [] == load.shots
    client.data_received(GOOD[30:])

    assert [b"a request"] == transport.written
    assert [client, client] == idle
    assert 2_000 <= load.quantile_ms(200, 0.5) < 3_000


def test_a_closed_loop_waits_for_its_answers() -> None:
    """Each connection has at most one request under way."""
    with answering(lambda _number: GOOD) as address:
        load = uvloop.run(open_loop.closed_loop(address, connections=2, seconds=0.3))

    assert load.count(200) == len(load.shots) > 10
