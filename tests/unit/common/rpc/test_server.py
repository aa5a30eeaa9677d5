"""Tests of common.rpc.server on real sockets."""

import asyncio
import contextlib
import socket
import struct
import threading
from pathlib import Path

import pytest
import zmq

from common.errors import (
    DisconnectedError,
    FatalError,
    RefusedError,
)
from common.protocol import codec, messages
from common.protocol.codec import Reply, Request
from common.protocol.messages import Code, Failure, LeaseGranted, Ping, Register, Status
from common.rpc.pipelined import PipelinedTransport
from common.rpc.pooled import PooledTransport
from common.rpc.server import Server
from common.rpc.transport import ask
from common.security.keyring import Keyring
from scripts import keys
from scripts.launcher.ports import free_addresses
from tests.support.servers import READY, handle, reply_or_none, serving, serving_in_loop
from tests.support.waiting import eventually


def test_a_request_over_the_limit_is_refused_at_once(transport: PooledTransport) -> None:
    """It is answered OVERLOADED instead of being queued; later requests are served."""
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


def test_the_requests_of_one_connection_are_limited() -> None:
    """One request more is refused at once, and other connections are not affected."""

    async def run() -> None:
        may_answer = asyncio.Event()

        async def handle(_request: Request) -> Reply:
            await may_answer.wait()
            return READY

        async with serving_in_loop(handle, peer_in_flight=2) as address:
            with (
                contextlib.closing(PipelinedTransport()) as transport,
                contextlib.closing(PipelinedTransport()) as other,
            ):
                calls = [asyncio.create_task(transport.call(address, Ping(), timeout_s=5.0)) for _ in range(3)]
                (first,), _ = await asyncio.wait(calls, return_when=asyncio.FIRST_COMPLETED)
                overloaded = Failure(code=Code.OVERLOADED, reason="2 requests of yours are in flight")
                assert overloaded == first.result()
                of_other = asyncio.create_task(other.call(address, Ping(), timeout_s=5.0))
                may_answer.set()
                assert READY == await of_other
                assert 2 == [*await asyncio.gather(*calls)].count(READY)

    asyncio.run(run())


def test_a_key_speaks_only_for_its_own_address(tmp_path: Path) -> None:
    """A process can register its own address, and no other one."""
    (address,) = free_addresses(1)
    client, other = "127.0.0.1:1", "127.0.0.1:2"
    for name in (address, client, other):
        keys.write_pair(tmp_path, name)

    async def grant(_request: Request) -> Reply:
        return LeaseGranted(seconds=1.0)

    with (
        serving(grant, address=address, keyring=Keyring(tmp_path, address)),
        contextlib.closing(PooledTransport(Keyring(tmp_path, client))) as transport,
    ):
        for name, expected in ((client, None), (other, Code.FORBIDDEN)):
            reply = transport.call(address, Register(name="logging-service", address=name), timeout_s=10.0)
            assert expected == getattr(reply, "code", None)


def test_a_stopping_server_answers_accepted_requests(transport: PooledTransport) -> None:
    """A request that is in flight when the server is told to stop gets its reply."""
    entered, release = threading.Event(), threading.Event()
    got: list[Reply] = []

    async def slow(_request: Request) -> Reply:
        entered.set()
        await asyncio.to_thread(release.wait, 10.0)
        return READY

    with serving(slow) as address:
        caller = threading.Thread(target=lambda: got.append(transport.call(address, Ping(), timeout_s=10.0)))
        caller.start()
        assert entered.wait(5.0)
        threading.Timer(0.2, release.set).start()
    caller.join()

    assert [READY] == got


def test_invalid_frames_get_an_error_and_others_are_served(transport: PooledTransport) -> None:
    """The reply to any frames that are no request is INVALID."""
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


def test_a_frame_over_the_limit_closes_only_its_connection(transport: PooledTransport) -> None:
    """The connection is closed before memory is allocated for the frame; bytes that are not ZMTP do no harm either."""
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
            transport.call(address, OversizedMessage(), timeout_s=5.0)  # type: ignore[arg-type]
        assert READY == eventually(lambda: reply_or_none(transport, address))


class OversizedMessage(messages.WireMessage, frozen=True, kw_only=True):
    """A message that is larger than any server accepts."""

    filling: str = "x" * (messages.REQUEST_BYTES + 1)


def test_a_taken_port_is_an_error_of_one_sentence() -> None:
    """A second server at an address cannot start."""
    with serving(handle) as address, pytest.raises(FatalError, match=f"cannot listen at {address}: the port is taken"):
        Server(address, handle)
