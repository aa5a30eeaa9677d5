"""Tests of facade.server.server: a real waitress on a real socket."""

import contextlib
import http.client
import select
import socket
import threading
import time
from collections.abc import Callable
from typing import Any

import pytest

from common.config import Limits
from common.errors import FatalError
from common.hostport import split
from facade import workers
from facade.server import server
from facade.server.connection import IDLE_S
from facade.server.scheduler import Scheduler
from scripts.launcher.ports import free_addresses
from tests.support.servers import get, hello, raw_response, serving_http
from tests.support.waiting import eventually


def test_a_request_is_answered() -> None:
    """An ordinary request reaches the application, and no header names the server."""
    with (
        serving_http(hello) as running,
        contextlib.closing(http.client.HTTPConnection(running.address, timeout=10.0)) as connection,
    ):
        connection.request("GET", "/")
        response = connection.getresponse()
        assert (200, b"hello", None) == (response.status, response.read(), response.getheader("server"))


def test_requests_over_the_limit_are_refused_at_once_and_health_is_always_answered() -> None:
    """While two requests run and one waits, the next is 503 within 50 ms, and /livez is answered."""
    started, scheduler = threading.Semaphore(0), Scheduler()
    may_end = scheduler.event()

    def slow(environ: dict[str, Any], start_response: Callable[..., Any]) -> list[bytes]:
        if environ["PATH_INFO"] != "/livez":
            started.release()
            may_end.wait()
        return hello(environ, start_response)

    with serving_http(slow, Limits(queued=1), scheduler) as running, contextlib.ExitStack() as stack:
        clients = [http.client.HTTPConnection(running.address, timeout=10.0) for _ in range(5)]
        for client in clients:
            stack.callback(client.close)
        for client in clients[:2]:
            client.request("GET", "/")
            assert started.acquire(timeout=5.0)
        for client in clients[2:4]:
            client.request("GET", "/")
        answered, _, _ = select.select([client.sock for client in clients[2:4]], [], [], 5.0)
        (refused,) = [client for client in clients[2:4] if client.sock in answered]
        refusal = refused.getresponse()
        clients[4].request("GET", "/livez")
        assert 200 == clients[4].getresponse().status
        may_end.set()
        statuses = [client.getresponse().status for client in clients[:4] if client is not refused]

    assert [200] * 3 == statuses
    assert (503, "1") == (refusal.status, refusal.headers["retry-after"])


def test_health_is_answered_beside_clients_that_do_not_read_it() -> None:
    """Clients that ask for health again and again and read nothing do not hold up others."""

    def large(_environ: dict[str, Any], start_response: Callable[..., Any]) -> list[bytes]:
        start_response("200 OK", [("Content-Length", "500000")])
        return [b"x" * 500_000]

    with serving_http(large) as running, contextlib.ExitStack() as stack:
        for _ in range(4):
            silent = stack.enter_context(socket.create_connection(split(running.address), timeout=10.0))
            silent.sendall(b"GET /livez HTTP/1.1\r\nHost: x\r\n\r\n" * 100 + b"nonsense\r\n\r\n")
            assert select.select([silent], [], [], 10.0)[0]
        for _ in range(20):
            status, _, _ = raw_response(running.address, b"GET /livez HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
            assert 200 == status


def test_health_is_answered_beyond_the_limit_of_connections() -> None:
    """A connection beyond the limit gets /livez, or 503 for other paths, and is closed then."""
    with serving_http(hello, Limits(connections=8)) as running, contextlib.ExitStack() as stack:
        for _ in range(8):
            stack.enter_context(socket.create_connection(split(running.address), timeout=10.0))
        answers = [
            raw_response(running.address, f"GET {path} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
            for path in ("/livez", "/facade")
        ]
        silent = stack.enter_context(socket.create_connection(split(running.address), timeout=10.0))
        assert b"" == silent.recv(1)  # without a request it is closed soon

    assert [200, 503] == [status for status, _, _ in answers]
    assert b"too many connections are open already" in answers[1][2]


def test_accepted_requests_are_answered_before_the_server_stops() -> None:
    """A stopping server answers the requests that run, and those that wait."""
    started, scheduler = threading.Semaphore(0), Scheduler()
    may_end = scheduler.event()

    def slow(environ: dict[str, Any], start_response: Callable[..., Any]) -> list[bytes]:
        started.release()
        may_end.wait()
        return hello(environ, start_response)

    with contextlib.ExitStack() as stack:
        with serving_http(slow, scheduler=scheduler, on_stop=may_end.set) as running:
            connections = [http.client.HTTPConnection(running.address, timeout=10.0) for _ in range(4)]
            for connection in connections:
                stack.callback(connection.close)
                connection.request("GET", "/")
            assert all(started.acquire(timeout=5.0) for _ in range(2))
            eventually(lambda: server.queued(running.server) == 2)
        assert [b"hello"] * 4 == [connection.getresponse().read() for connection in connections]


def test_all_waiting_connections_are_accepted_in_one_turn() -> None:
    """By itself waitress accepts one in each turn of its loop: the last of many would wait for as many turns."""
    with contextlib.ExitStack() as stack:
        (address,) = free_addresses(1)
        scheduler = Scheduler()
        made = server.create(scheduler, hello, workers.listen(*split(address)), requests=2)
        clients = [stack.enter_context(socket.create_connection(split(address), timeout=10.0)) for _ in range(50)]
        stop = scheduler.event()
        accepted: list[int] = []

        def look() -> None:
            accepted.append(len(made.active_channels))
            if len(accepted) == 2:
                stop.set()
            else:
                scheduler.call_soon(look)  # in the next turn

        scheduler.call_soon(look)
        server.run(made, stop, drain_s=1.0)

    assert len(clients) == accepted[1]


def test_an_idle_connection_is_closed() -> None:
    """The time is that of a clock that nobody sets: a step of the system's clock closes no connection."""
    with serving_http(hello) as running, socket.create_connection(split(running.address), timeout=10.0) as client:
        assert b"hello" == get(client)
        running.server.next_channel_cleanup = 0.0
        assert b"hello" == get(client)  # waitress' own cleanup closes nothing
        for channel in tuple(running.server.active_channels.values()):
            channel.clock = lambda: IDLE_S * 10 * time.monotonic()
        assert b"" == client.recv(1)


def test_an_untested_version_of_waitress_is_refused() -> None:
    """Its private parts are used, and may differ in another version."""
    server.refuse_untested("3.0.2")
    with pytest.raises(FatalError, match=r"waitress 3.1.0 is installed, and only 3.0.x was tested: run `make install`"):
        server.refuse_untested("3.1.0")
