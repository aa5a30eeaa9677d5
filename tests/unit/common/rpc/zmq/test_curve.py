"""Tests of CURVE on real sockets: who is let in, who is not, and what it costs those who are."""

import asyncio
import contextlib
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
import zmq
from structlog.typing import EventDict

from common import process
from common.errors import PeerError, RefusedError, UnreachableError
from common.protocol import codec
from common.protocol.codec import Reply, Request
from common.protocol.messages import Code, LeaseGranted, Lookup, LookupResult, Ping, Register, State, Status
from common.rpc.pooled import PooledTransport
from common.rpc.server import Server
from common.rpc.transport import ask
from common.security import keyring
from common.security.keyring import Keyring
from scripts import keys
from scripts.client.connection import client
from scripts.launcher.cluster import Cluster
from scripts.launcher.ports import free_addresses
from tests.support.clusters import running_cluster
from tests.support.waiting import eventually

CLIENT, OTHER = "127.0.0.1:1", "127.0.0.1:2"
READY = Status(service="test", state=State.READY)


async def handle(request: Request) -> Reply:
    """Answers all that may come."""
    return LeaseGranted(seconds=1.0) if isinstance(request, Register) else READY


class Guarded:
    """A server with keys in a thread of its own."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        (self.address,) = free_addresses(1)
        for name in (self.address, CLIENT, OTHER):
            keys.write_pair(folder, name)
        self.server = Server(self.address, handle, Keyring(folder, self.address))

    def asked(self, transport: PooledTransport, request: Request = Ping()) -> Reply:  # noqa: B008 (frozen)
        """The reply to one request."""
        return transport.call(self.address, request, timeout_s=1.0)

    def reached(self, transport: PooledTransport) -> bool:
        """Whether it answers a ping."""
        try:
            return READY == self.asked(transport)
        except PeerError:
            return False


@pytest.fixture
def guarded(tmp_path: Path) -> Iterator[Guarded]:
    """A server that knows CLIENT and OTHER."""
    made, started, ends = Guarded(tmp_path), threading.Event(), []

    async def serve() -> None:
        stop = asyncio.Event()
        ends.append((asyncio.get_running_loop(), stop))
        started.set()
        await made.server.serve(stop)

    thread = threading.Thread(target=asyncio.run, args=(serve(),))
    thread.start()
    assert started.wait(5.0)
    yield made
    ends[0][0].call_soon_threadsafe(ends[0][1].set)
    thread.join()


@contextlib.contextmanager
def calling(ring: Keyring | None) -> Iterator[PooledTransport]:
    """A client with the keys of a keyring, closed at the end."""
    transport = PooledTransport(ring)
    yield transport
    transport.close()


def refused(guarded: Guarded, transport: PooledTransport, reason: str) -> bool:
    """Ask, in vain: True if the server has counted that reason. On a busy machine it takes more than one attempt."""
    with pytest.raises(UnreachableError):
        guarded.asked(transport)
    return guarded.server.refused[reason] > 0


def stranger(folder: Path, server: str, public: str) -> Keyring:
    """The keyring of somebody whom the server does not know, and who takes `public` for its key."""
    keys.write_pair(folder, CLIENT)
    (folder / f"{server}.pub").write_text(public)
    return Keyring(folder, CLIENT)


def test_who_is_known_is_answered(guarded: Guarded) -> None:
    """Both halves are right: the server's key is known to the client, and the client's to the server."""
    with calling(Keyring(guarded.folder, CLIENT)) as transport:
        assert READY == guarded.asked(transport)
    assert {0} == set(guarded.server.refused.values())


def test_an_unknown_key_is_refused_and_counted(guarded: Guarded, tmp_path: Path, logged: list[EventDict]) -> None:
    """The client learns at once that there is no connection; the log has one line for many."""
    ring = stranger(tmp_path / "x", guarded.address, Keyring(guarded.folder, CLIENT).key_of(guarded.address) or "")
    with calling(ring) as transport, pytest.raises(UnreachableError):
        guarded.asked(transport)

    assert eventually(lambda: guarded.server.refused["unknown key"] > 0)
    assert eventually(lambda: any(line["event"] == "connections refused" for line in logged))


def test_no_key_is_refused_and_counted(guarded: Guarded) -> None:
    """A client without keys gets no answer from a server that has them."""
    with calling(None) as transport:
        eventually(lambda: refused(guarded, transport, "no key"))


def test_a_server_with_another_key_is_not_spoken_to(guarded: Guarded, tmp_path: Path) -> None:
    """Who took over its address has not its secret key."""
    ring = stranger(tmp_path / "x", guarded.address, Keyring(guarded.folder, CLIENT).key_of(OTHER) or "")
    with calling(ring) as transport:
        eventually(lambda: refused(guarded, transport, "another key of this server"))


def test_an_address_without_a_known_key_is_not_asked(guarded: Guarded) -> None:
    """There is nothing by which its server could be known."""
    with calling(Keyring(guarded.folder, CLIENT)) as transport, pytest.raises(UnreachableError, match="not known here"):
        transport.call("127.0.0.1:9", Ping(), timeout_s=1.0)


def test_a_key_is_added_and_removed_while_all_run(guarded: Guarded, tmp_path: Path) -> None:
    """Also a connection that there is already answers no more when its key is removed."""
    ring = stranger(tmp_path / "x", guarded.address, Keyring(guarded.folder, CLIENT).key_of(guarded.address) or "")
    with calling(ring) as transport:
        assert not guarded.reached(transport)
        added = guarded.folder / "127.0.0.1:3.pub"
        added.write_text(ring.public)
        assert eventually(lambda: guarded.reached(transport))

        added.unlink()
        with pytest.raises(RefusedError) as refused:
            eventually(lambda: ask(transport, guarded.address, Ping(), Status, timeout_s=1.0) is None)
        assert Code.FORBIDDEN == refused.value.code


def test_a_server_that_gets_new_keys_is_followed(guarded: Guarded) -> None:
    """A client takes the new public key for new connections, and leaves the old ones."""
    with calling(Keyring(guarded.folder, CLIENT)) as transport:
        assert guarded.reached(transport)
        keys.write_pair(guarded.folder, guarded.address, replace=True)

        assert eventually(lambda: not guarded.reached(transport))  # the server itself was not started again


def test_nobody_registers_for_another(guarded: Guarded) -> None:
    """A key speaks for its own address alone."""
    with calling(Keyring(guarded.folder, CLIENT)) as transport:
        own = guarded.asked(transport, Register(name="logging-service", address=CLIENT))
        other = guarded.asked(transport, Register(name="logging-service", address=OTHER))

    assert LeaseGranted(seconds=1.0) == own
    assert Code.FORBIDDEN == getattr(other, "code", None)


def test_a_thousand_connections_with_wrong_keys_get_nowhere(guarded: Guarded) -> None:
    """None is answered, all are counted, and who is known is answered meanwhile."""
    wrong, server_key = 1_000, Keyring(guarded.folder, CLIENT).key_of(guarded.address) or ""
    with contextlib.ExitStack() as stack:
        context = stack.enter_context(zmq.Context())
        context.set(zmq.MAX_SOCKETS, 2 * wrong)
        sockets = [stack.enter_context(context.socket(zmq.DEALER)) for _ in range(wrong)]
        for socket in sockets:
            public, secret = zmq.curve_keypair()
            socket.linger, socket.reconnect_ivl = 0, -1
            socket.curve_publickey, socket.curve_secretkey, socket.curve_serverkey = public, secret, server_key.encode()
            socket.connect(f"tcp://{guarded.address}")
            socket.send_multipart([b"", codec.encode(Ping())])
        transport = stack.enter_context(calling(Keyring(guarded.folder, CLIENT)))

        refused = guarded.server.refused  # some take over 2 s for their handshake, when all come at once
        assert eventually(lambda: refused["unknown key"] + refused["no handshake"] >= wrong, timeout_s=60.0)
        assert refused["unknown key"] > 0
        assert guarded.reached(transport)
        assert [] == [socket for socket in sockets if socket.poll(0)]


@pytest.mark.cluster
def test_a_whole_cluster_with_keys(runtime: object, tmp_path: Path) -> None:
    """Registry, nodes, members and facade work together, and nobody without keys is answered by any of them."""
    del runtime
    with (
        running_cluster(tmp_path, engine="hazelcast", keyed=True) as cluster,
        client(cluster.settings.facade.address) as http_client,
    ):
        assert 200 == http_client.post("with keys").status
        nodes = cluster.settings.service_ips.logging_service
        with calling(None) as transport:
            for address in (*cluster.settings.registry.addresses, *nodes):
                with pytest.raises(UnreachableError):
                    transport.call(address, Ping(), timeout_s=1.0)
        cluster.kill([1])
        assert 200 == http_client.post("with a node less").status
        assert eventually(lambda: known(cluster) == set(nodes[1:]))
        (tmp_path / "keys" / f"{nodes[1]}.pub").unlink()
        assert eventually(lambda: known(cluster) == {nodes[2]})
        assert 200 == http_client.post("by the one that is left").status


def known(cluster: Cluster) -> set[str]:
    """The logging nodes that the registry hands out; none while it asks who is in sync."""
    ring = process.keyring_of(cluster.settings, cluster.folder.parent, keyring.OPERATOR)
    with calling(ring) as transport:
        registry = cluster.settings.registry.addresses[0]
        try:
            return set(ask(transport, registry, Lookup(name="logging-service"), LookupResult, timeout_s=2.0).values)
        except RefusedError:
            return set()
