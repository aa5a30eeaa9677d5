"""The blocking transport of scripts: a connection pool. Facades and nodes use `common.rpc.pipelined`."""

import contextlib
import time
from collections import defaultdict

from common.errors import UnreachableError
from common.protocol import codec
from common.protocol.codec import Reply, Request
from common.rpc.transport import decoded
from common.rpc.zmq.connection import Connection
from common.rpc.zmq.sockets import new_context
from common.security.keyring import Keyring
from common.telemetry import request_context

IDLE_S = 60.0  # an unused connection is closed after this time
RECONNECT_MS, RECONNECT_MAX_MS = 50, 400  # back-off; the maximum finds a restarted server within one heartbeat


class PooledTransport:
    """A pool of REQ sockets; each serves one call at a time, so an address has one for each concurrent call.

    Args:
        keyring: the keys of this process and of the servers; None: neither encryption nor authentication.
        reconnect_ms: the first and the longest interval between two attempts to connect.
        idle_s: seconds without a call after which a connection is closed; checked ten times in this interval.
    """

    def __init__(
        self,
        keyring: Keyring | None = None,
        *,
        reconnect_ms: tuple[int, int] = (RECONNECT_MS, RECONNECT_MAX_MS),
        idle_s: float = IDLE_S,
    ) -> None:
        self._keyring = keyring
        self._reconnect_ms = reconnect_ms
        self._idle_s = idle_s
        self._context = new_context()
        self._idle: dict[str, list[Connection]] = defaultdict(list)
        self._connections: set[Connection] = set()  # idle and in use
        self._swept_s = time.monotonic()

    def call(self, address: str, request: Request, *, timeout_s: float) -> Reply:
        """See common.rpc.transport.Transport."""
        self._sweep()
        frame, connection = codec.encode(request, request_context.current()), self._borrow(address)
        try:
            return decoded(address, connection.call(frame, timeout_s))
        finally:
            self._idle[address].append(connection)

    def close(self) -> None:
        """Close all sockets; only allowed when no thread uses the transport any more."""
        for connection in self._connections:
            connection.close()
        self._context.term()

    def _borrow(self, address: str) -> Connection:
        """Take the last used connection, or make one; thread-safe because a list's pop and append are atomic."""
        key = self._server_key(address)
        with contextlib.suppress(IndexError):
            while (connection := self._idle[address].pop()).handshake_refused or connection.server_key != key:
                self._close(connection)
            return connection
        connection = Connection(self._context, address, self._reconnect_ms, self._keyring, key)
        self._connections.add(connection)
        return connection

    def _close(self, connection: Connection) -> None:
        self._connections.discard(connection)
        connection.close()

    def _server_key(self, address: str) -> str | None:
        """The public key of the server at an address; None without a keyring."""
        if self._keyring is None:
            return None
        if (key := self._keyring.key_of(address)) is None:
            raise UnreachableError(address, "its public key is not known here")
        return key

    def _sweep(self) -> None:
        """Read the monitor events of idle connections, and close those that are idle for too long.

        Unread events fill a queue; when it is full, libzmq's only I/O thread blocks, for all sockets.
        """
        now_s = time.monotonic()
        if now_s - self._swept_s < self._idle_s / 10:
            return
        self._swept_s = now_s
        for connections in list(self._idle.values()):
            for _ in range(len(connections)):
                with contextlib.suppress(IndexError):  # another thread has borrowed it
                    connection = connections.pop(0)
                    connection.take_events()
                    if now_s - connection.used_s < self._idle_s:
                        connections.append(connection)
                    else:
                        self._close(connection)
