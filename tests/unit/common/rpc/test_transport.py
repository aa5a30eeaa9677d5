"""Tests of common.rpc on real sockets, and of its in-memory twin: one contract for both."""

import asyncio
import socket
import struct
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager

import pytest
import zmq

from common.errors import (
    DisconnectedError,
    FailedError,
    FatalError,
    PeerError,
    RefusedError,
    TimedOutError,
    UnreachableError,
)
from common.protocol import codec, messages
from common.protocol.codec import Reply, Request
from common.protocol.messages import Code, Describe, Description, Failure, Lookup, Ping, Status
from common.rpc.memory import MemoryTransport
from common.rpc.pooled import PooledTransport
from common.rpc.server import Server
from common.rpc.transport import Transport, ask
from common.rpc.zmq.connection import Connection
from common.rpc.zmq.sockets import new_context
from scripts.launcher.ports import free_addresses
from tests.support.servers import READY, handle, serving
from tests.support.waiting import eventually


def reply_or_none(transport: Transport, address: str) -> Reply | None:
    """The reply to a ping, when the address can be reached now."""
    try:
        return transport.call(address, Ping(), timeout_s=1.0)
    except PeerError:
        return None


@pytest.mark.parametrize("address", ["nowhere", "127.0.0.1:", "127.0.0.1:99999", "a b:1", "127.0.0.1:0x"])
def test_what_is_no_address_cannot_be_reached(transport: PooledTransport, address: str) -> None:
    """A registry may hand out anything: it costs an attempt, and nothing breaks."""
    with pytest.raises(UnreachableError):
        transport.call(address, Ping(), timeout_s=0.5)


def test_what_there_is_no_room_for_cannot_be_reached() -> None:
    """Also when only its monitor has none; nothing of it stays open, or the context could not end."""
    for sockets in (1, 2):
        context = new_context()
        context.set(zmq.MAX_SOCKETS, sockets)
        with pytest.raises(UnreachableError, match="no connection can be made: Too many open files"):
            Connection(context, "127.0.0.1:9", (50, 400), None, None)
        context.term()


Calling = Callable[[], AbstractContextManager[tuple[Transport, str]]]


@contextmanager
def real() -> Iterator[tuple[Transport, str]]:
    """Real sockets and a real server."""
    transport = PooledTransport()
    with serving(handle) as address:
        yield transport, address
        transport.close()


@contextmanager
def twin() -> Iterator[tuple[Transport, str]]:
    """The in-memory twin."""
    yield MemoryTransport({"a:1": handle}), "a:1"


@pytest.fixture(params=[real, twin])
def called(request: pytest.FixtureRequest) -> Iterator[tuple[Transport, str]]:
    """A transport and an address at which `handle` answers."""
    calling: Calling = request.param
    with calling() as (transport, address):
        yield transport, address


def test_a_request_gets_the_reply_of_the_handler(called: tuple[Transport, str]) -> None:
    """The reply is what the handler returned."""
    transport, address = called

    assert READY == ask(transport, address, Ping(), Status, timeout_s=1.0)
    assert "hi" == ask(transport, address, Describe(), Description, timeout_s=1.0).text


def test_a_handler_that_fails_is_an_error_of_its_kind(called: tuple[Transport, str]) -> None:
    """A refusal, a failed step and a defect are told apart; a defect tells no details."""
    transport, address = called

    with pytest.raises(RefusedError, match="starting: not yet"):
        ask(transport, address, Lookup(name="refuse"), Status, timeout_s=1.0)
    with pytest.raises(FailedError, match="failed: the store is away"):
        ask(transport, address, Lookup(name="store"), Status, timeout_s=1.0)
    with pytest.raises(FailedError, match="failed: internal error"):
        ask(transport, address, Lookup(name="defect"), Status, timeout_s=1.0)
    with pytest.raises(FailedError, match="answered Description where Status belongs"):
        ask(transport, address, Describe(), Status, timeout_s=1.0)
    assert READY == ask(transport, address, Ping(), Status, timeout_s=1.0)


def test_nobody_there_is_unreachable_at_once(called: tuple[Transport, str]) -> None:
    """An address where nothing listens costs far less than the timeout."""
    transport, _ = called
    (nowhere,) = free_addresses(1)
    began = time.monotonic()

    with pytest.raises(UnreachableError, match="no connection"):
        transport.call(nowhere, Ping(), timeout_s=5.0)
    assert time.monotonic() - began < 1.0


def test_no_reply_in_time_is_timed_out_and_the_late_one_is_not_taken_for_the_next() -> None:
    """After a timeout the same socket serves the next request, and gets the reply that belongs to it."""
    release = threading.Event()

    async def slow(request: Request) -> Reply:
        if isinstance(request, Describe):
            await asyncio.to_thread(release.wait, 5.0)
            return Description(text="late")
        return READY

    transport = PooledTransport()
    with serving(slow) as address:
        with pytest.raises(TimedOutError, match=r"no reply in 0\.1 s"):
            transport.call(address, Describe(), timeout_s=0.1)
        release.set()
        assert [READY] * 20 == [transport.call(address, Ping(), timeout_s=1.0) for _ in range(20)]
        transport.close()


def test_a_peer_that_leaves_with_the_request_is_known_at_once() -> None:
    """A connection that breaks before the reply does not cost the timeout."""
    transport = PooledTransport()
    (address,) = free_addresses(1)
    with zmq.Context() as context, context.socket(zmq.ROUTER) as peer:
        peer.setsockopt(zmq.LINGER, 0)
        peer.bind(f"tcp://{address}")

        def take_and_leave() -> None:
            peer.recv_multipart()
            peer.close()

        leaver = threading.Thread(target=take_and_leave)
        leaver.start()
        began = time.monotonic()
        with pytest.raises(DisconnectedError, match="broke before the reply"):
            transport.call(address, Ping(), timeout_s=5.0)
        assert time.monotonic() - began < 1.0
        leaver.join()
    with pytest.raises(UnreachableError):
        transport.call(address, Ping(), timeout_s=5.0)
    transport.close()


def test_a_server_that_comes_back_is_reached_again(transport: PooledTransport) -> None:
    """A connection is made again by itself within the reconnect interval."""
    with serving(handle) as address:
        assert READY == transport.call(address, Ping(), timeout_s=1.0)
    with serving(handle, address=address):
        assert READY == eventually(lambda: reply_or_none(transport, address))


def test_connections_to_the_dead_that_nobody_uses_cost_the_others_nothing() -> None:
    """Libzmq tells each try to reconnect; when nobody takes that news, it stops working after 2,000 of them."""
    entered, release = threading.Semaphore(0), threading.Event()

    async def hold(_request: Request) -> Reply:
        entered.release()
        await asyncio.to_thread(release.wait, 10.0)
        return READY

    transport = PooledTransport(reconnect_ms=(1, 1), idle_s=2.0)
    with serving(handle) as living:
        with serving(hold) as dying:
            callers = [
                threading.Thread(target=transport.call, args=(dying, Ping()), kwargs={"timeout_s": 10.0}) for _ in "123"
            ]
            for caller in callers:
                caller.start()
            assert all(entered.acquire(timeout=5.0) for _ in callers)
            release.set()
            for caller in callers:
                caller.join()
        ends = time.monotonic() + 6.0  # some thousand tries
        while time.monotonic() < ends:
            assert READY == transport.call(living, Ping(), timeout_s=1.0)
    transport.close()


def test_a_connection_that_nobody_uses_is_closed() -> None:
    """The next call makes a new one."""
    transport = PooledTransport(idle_s=0.0)
    with serving(handle) as one, serving(handle) as other:
        for address in (one, other, one):
            assert READY == transport.call(address, Ping(), timeout_s=5.0)
        assert 1 == len(transport._connections)
    transport.close()


def test_a_peer_that_answers_nonsense_has_failed(transport: PooledTransport) -> None:
    """A reply that is no message, or more than one frame, is the peer's failure; a huge one breaks the connection."""
    replies = [[b"\xc1"], [b"a", b"b"], [bytes(messages.REPLY_BYTES + 1)]]
    with zmq.Context() as context, context.socket(zmq.ROUTER) as peer:
        peer.setsockopt(zmq.LINGER, 0)
        peer.setsockopt(zmq.RCVTIMEO, 5_000)
        port = peer.bind_to_random_port("tcp://127.0.0.1", min_port=10_000, max_port=32_000)

        def answer() -> None:
            for reply in replies:
                *envelope, _ = peer.recv_multipart()
                peer.send_multipart([*envelope, *reply])

        answering = threading.Thread(target=answer)
        answering.start()
        with pytest.raises(FailedError, match="invalid frame"):
            transport.call(f"127.0.0.1:{port}", Ping(), timeout_s=5.0)
        with pytest.raises(FailedError, match="2 frames"):
            transport.call(f"127.0.0.1:{port}", Ping(), timeout_s=5.0)
        with pytest.raises(DisconnectedError):
            transport.call(f"127.0.0.1:{port}", Ping(), timeout_s=5.0)
        answering.join()


def test_over_its_limit_a_server_refuses_at_once_and_recovers(transport: PooledTransport) -> None:
    """One request more than may be in flight is answered OVERLOADED, not queued."""
    release = threading.Event()
    entered = threading.Semaphore(0)

    async def slow(_request: Request) -> Reply:
        entered.release()
        await asyncio.to_thread(release.wait, 10.0)
        return READY

    with serving(slow, in_flight=2) as address:
        callers = [
            threading.Thread(target=transport.call, args=(address, Ping()), kwargs={"timeout_s": 10.0}) for _ in "12"
        ]
        for caller in callers:
            caller.start()
        assert all(entered.acquire(timeout=5.0) for _ in callers)
        with pytest.raises(RefusedError, match="overloaded: 2 requests are in flight"):
            ask(transport, address, Ping(), Status, timeout_s=5.0)
        release.set()
        for caller in callers:
            caller.join()
        assert READY == transport.call(address, Ping(), timeout_s=5.0)


def test_a_stopping_server_answers_what_it_took() -> None:
    """What is in flight when a server is told to stop is still answered."""
    entered, release = threading.Event(), threading.Event()
    got: list[Reply] = []

    async def slow(_request: Request) -> Reply:
        entered.set()
        await asyncio.to_thread(release.wait, 10.0)
        return READY

    transport = PooledTransport()
    with serving(slow) as address:
        caller = threading.Thread(target=lambda: got.append(transport.call(address, Ping(), timeout_s=10.0)))
        caller.start()
        assert entered.wait(5.0)
        threading.Timer(0.2, release.set).start()
    caller.join()
    transport.close()

    assert [READY] == got


def test_garbage_frames_get_an_error_and_the_server_goes_on(transport: PooledTransport) -> None:
    """Whatever a socket sends, it is told what is wrong, and the others are served."""
    with serving(handle) as address, zmq.Context() as context, context.socket(zmq.DEALER) as dealer:
        dealer.setsockopt(zmq.LINGER, 0)
        dealer.setsockopt(zmq.RCVTIMEO, 5_000)
        dealer.connect(f"tcp://{address}")
        for frames in ([b"", b"\xc1"], [b"", b"a", b"b"], [b""], [b"no delimiter"], [b"x", b"", codec.encode(READY)]):
            dealer.send_multipart(frames)
            reply = codec.decode_reply(dealer.recv_multipart()[-1])
            assert isinstance(reply, Failure)
            assert Code.INVALID is reply.code
        assert READY == transport.call(address, Ping(), timeout_s=1.0)


def test_a_frame_over_the_limit_closes_the_connection_and_the_server_goes_on(transport: PooledTransport) -> None:
    """Libzmq cuts who announces too much before it takes memory for it; also raw bytes do no harm."""
    greeting = b"\xff" + bytes(8) + b"\x7f\x03\x00NULL" + bytes(16 + 32)  # ZMTP 3.0 without security
    ready = b"\x04\x19\x05READY\x0bSocket-Type\x00\x00\x00\x03REQ"
    with serving(handle) as address:
        host, port = address.split(":")
        with socket.create_connection((host, int(port)), timeout=5.0) as raw:
            raw.sendall(greeting + ready + b"\x02" + struct.pack(">Q", 2**31) + bytes(100))
            while raw.recv(4_096):  # until the server closes
                pass
        with socket.create_connection((host, int(port)), timeout=5.0) as raw:
            raw.sendall(b"GET / HTTP/1.1\r\n\r\n" * 10)
        with pytest.raises(DisconnectedError):
            transport.call(address, _Oversized(), timeout_s=5.0)  # type: ignore[arg-type]
        assert READY == eventually(lambda: reply_or_none(transport, address))


class _Oversized(messages.WireMessage, frozen=True, kw_only=True):
    """A message that is larger than any server takes."""

    filling: str = "x" * (messages.REQUEST_BYTES + 1)


def test_a_taken_port_is_one_sentence() -> None:
    """A second server at an address says what is wrong."""
    with serving(handle) as address, pytest.raises(FatalError, match=f"cannot listen at {address}: the port is taken"):
        Server(address, handle)


def test_the_twin_can_kill_hang_cut_and_revive_an_address() -> None:
    """The faults of the twin raise what the real transport raises, without waiting in real time."""
    waited: list[float] = []
    twin = MemoryTransport({"a:1": handle}, sleep=waited.append)

    twin.kill("a:1")
    with pytest.raises(UnreachableError):
        twin.call("a:1", Ping(), timeout_s=1.0)
    twin.revive("a:1")
    twin.hang("a:1")
    with pytest.raises(TimedOutError):
        twin.call("a:1", Ping(), timeout_s=1.0)
    twin.revive("a:1")
    twin.cut("a:1")
    with pytest.raises(DisconnectedError):
        twin.call("a:1", Ping(), timeout_s=1.0)
    twin.revive("a:1")
    assert READY == twin.call("a:1", Ping(), timeout_s=1.0)
    assert [1.0] == waited
    assert [("a:1", Ping())] * 4 == twin.called
