"""Tests of common.rpc.zmq.curve on real sockets: which clients are admitted, and what refusals cost the others."""

import contextlib
from collections.abc import Iterator
from pathlib import Path

import pytest
import zmq
from structlog.typing import EventDict

from common.errors import PeerError, RefusedError, UnreachableError
from common.protocol import codec
from common.protocol.codec import Reply, Request
from common.protocol.messages import Code, Ping, Status
from common.rpc.pooled import PooledTransport
from common.rpc.server import Server
from common.rpc.transport import ask
from common.security.keyring import Keyring
from scripts import keys
from scripts.launcher.ports import free_addresses
from tests.support.servers import READY, pooled, running_in_thread
from tests.support.waiting import eventually

CLIENT, OTHER = "127.0.0.1:1", "127.0.0.1:2"


async def handle(_request: Request) -> Reply:
    """Answer every request."""
    return READY


class EncryptedServer:
    """A server with keys, which knows CLIENT and OTHER.

    Args:
        folder: of the keys.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        (self.address,) = free_addresses(1)
        for name in (self.address, CLIENT, OTHER):
            keys.write_pair(folder, name)
        self.server = Server(self.address, handle, Keyring(folder, self.address))

    def ping(self, transport: PooledTransport) -> Reply:
        """The reply to a ping."""
        return transport.call(self.address, Ping(), timeout_s=1.0)

    def answers(self, transport: PooledTransport) -> bool:
        """Whether it answers a ping."""
        try:
            return READY == self.ping(transport)
        except PeerError:
            return False


@pytest.fixture
def encrypted(tmp_path: Path) -> Iterator[EncryptedServer]:
    """A running server that knows CLIENT and OTHER."""
    made = EncryptedServer(tmp_path)
    with running_in_thread(made.server):
        yield made


def is_refused(encrypted: EncryptedServer, transport: PooledTransport, reason: str) -> bool:
    """Ping in vain; True if the server has counted a refusal with this reason, which may take several attempts."""
    with pytest.raises(UnreachableError):
        encrypted.ping(transport)
    return encrypted.server.refused[reason] > 0


def unknown_client(folder: Path, server: str, public: str) -> Keyring:
    """The keyring of a client that the server does not know, with `public` as the key of the server."""
    keys.write_pair(folder, CLIENT)
    (folder / f"{server}.pub").write_text(public)
    return Keyring(folder, CLIENT)


def test_a_known_client_is_answered(encrypted: EncryptedServer) -> None:
    """Client and server have each other's public key."""
    with pooled(Keyring(encrypted.folder, CLIENT)) as transport:
        assert READY == encrypted.ping(transport)
    assert {0} == set(encrypted.server.refused.values())


def test_an_unknown_key_is_refused_and_counted(
    encrypted: EncryptedServer, tmp_path: Path, logged: list[EventDict]
) -> None:
    """The client learns at once that there is no connection; one line in the log covers many refusals."""
    ring = unknown_client(
        tmp_path / "x", encrypted.address, Keyring(encrypted.folder, CLIENT).key_of(encrypted.address) or ""
    )
    with pooled(ring) as transport, pytest.raises(UnreachableError):
        encrypted.ping(transport)

    assert eventually(lambda: encrypted.server.refused["unknown key"] > 0)
    assert eventually(lambda: any(line["event"] == "connections refused" for line in logged))


def test_a_client_without_keys_is_refused_and_counted(encrypted: EncryptedServer) -> None:
    """A server with keys does not answer it."""
    with pooled(None) as transport:
        # libzmq sees a wrong mechanism, or only that the client closes the connection when it sees one
        eventually(lambda: any(is_refused(encrypted, transport, reason) for reason in ("no key", "no handshake")))


def test_a_server_with_another_key_gets_no_request(encrypted: EncryptedServer, tmp_path: Path) -> None:
    """A process that took over the address of a server does not have its secret key."""
    ring = unknown_client(tmp_path / "x", encrypted.address, Keyring(encrypted.folder, CLIENT).key_of(OTHER) or "")
    with pooled(ring) as transport:
        eventually(lambda: is_refused(encrypted, transport, "another key of this server"))


def test_an_address_without_a_known_key_gets_no_request(encrypted: EncryptedServer) -> None:
    """Its server could not be authenticated."""
    with (
        pooled(Keyring(encrypted.folder, CLIENT)) as transport,
        pytest.raises(UnreachableError, match="not known here"),
    ):
        transport.call("127.0.0.1:9", Ping(), timeout_s=1.0)


def test_keys_are_added_and_removed_at_run_time(encrypted: EncryptedServer, tmp_path: Path) -> None:
    """A connection that is already open gets no more answers when its key is removed."""
    ring = unknown_client(
        tmp_path / "x", encrypted.address, Keyring(encrypted.folder, CLIENT).key_of(encrypted.address) or ""
    )
    with pooled(ring) as transport:
        assert not encrypted.answers(transport)
        added = encrypted.folder / "127.0.0.1:3.pub"
        added.write_text(ring.public)
        assert eventually(lambda: encrypted.answers(transport))

        added.unlink()
        with pytest.raises(RefusedError) as refused:
            eventually(lambda: ask(transport, encrypted.address, Ping(), Status, timeout_s=1.0) is None)
        assert Code.FORBIDDEN == refused.value.code


def test_new_connections_use_the_new_key_of_a_server(encrypted: EncryptedServer) -> None:
    """The old connections are not used any more."""
    with pooled(Keyring(encrypted.folder, CLIENT)) as transport:
        assert encrypted.answers(transport)
        keys.write_pair(encrypted.folder, encrypted.address, replace=True)

        assert eventually(lambda: not encrypted.answers(transport))  # the server itself still has the old key


def test_a_thousand_connections_with_wrong_keys_are_refused(encrypted: EncryptedServer) -> None:
    """None is answered, all are counted, and a known client is answered meanwhile."""
    wrong, server_key = 1_000, Keyring(encrypted.folder, CLIENT).key_of(encrypted.address) or ""
    with contextlib.ExitStack() as stack:
        context = stack.enter_context(zmq.Context())
        context.set(zmq.MAX_SOCKETS, 2 * wrong)
        sockets = [stack.enter_context(context.socket(zmq.DEALER)) for _ in range(wrong)]
        for socket in sockets:
            public, secret = zmq.curve_keypair()
            socket.linger, socket.reconnect_ivl = 0, -1
            socket.curve_publickey, socket.curve_secretkey, socket.curve_serverkey = public, secret, server_key.encode()
            socket.connect(f"tcp://{encrypted.address}")
            with contextlib.suppress(zmq.Again):  # the server may have refused it already
                socket.send_multipart([b"", codec.encode(Ping())], zmq.NOBLOCK)
        transport = stack.enter_context(pooled(Keyring(encrypted.folder, CLIENT)))

        refused = encrypted.server.refused  # some handshakes take over 2 s when all begin at once
        assert eventually(lambda: refused["unknown key"] + refused["no handshake"] >= wrong, timeout_s=60.0)
        assert refused["unknown key"] > 0
        assert encrypted.answers(transport)
        assert [] == [socket for socket in sockets if socket.poll(0)]
