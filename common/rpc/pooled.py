"""The connections of a process, kept and lent: how scripts call. Facades and nodes have `common.pipeline`."""

import contextlib
import time
from collections import defaultdict

from common.errors import FailedError, InvalidMessageError, UnreachableError
from common.protocol import codec
from common.protocol.codec import Reply, Request
from common.rpc.zmq.connection import Connection
from common.rpc.zmq.sockets import new_context
from common.security.keyring import Keyring
from common.telemetry import request_context

IDLE_S = 60.0  # after which a connection that nobody uses is closed
RECONNECT_MS, RECONNECT_MAX_MS = 50, 400  # soon at first, then gently: who is back is noticed within a heartbeat


class PooledTransport:
    """REQ sockets, each lent to one call at a time, so there are as many per address as there were calls at once.

    Args:
        keyring: whose keys are used, and by which servers are known; None: in clear, with whoever answers.
        reconnect_ms: between two tries to connect, at first and at most.
        idle_s: without a call, after which a connection is closed; ten times in it somebody looks.
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
        self._made: set[Connection] = set()
        self._swept_s = time.monotonic()

    def call(self, address: str, request: Request, *, timeout_s: float) -> Reply:
        """See Transport."""
        self._sweep()
        frame, connection = codec.encode(request, request_context.current()), self._borrow(address)
        try:
            return codec.decode_reply(connection.call(frame, timeout_s))
        except InvalidMessageError as error:
            raise FailedError(address, f"answered with an invalid frame: {error}") from error
        finally:
            self._idle[address].append(connection)

    def close(self) -> None:
        """Close all sockets; only after the threads that called have ended."""
        for connection in self._made:
            connection.close()
        self._context.term()

    def _borrow(self, address: str) -> Connection:
        """The one that was used last, or a new one; a list's pop and append are atomic, so no thread gets it twice."""
        key = self._key(address)
        with contextlib.suppress(IndexError):
            while (connection := self._idle[address].pop()).given_up or connection.server_key != key:
                self._close(connection)
            return connection
        connection = Connection(self._context, address, self._reconnect_ms, self._keyring, key)
        self._made.add(connection)
        return connection

    def _close(self, connection: Connection) -> None:
        self._made.discard(connection)
        connection.close()

    def _key(self, address: str) -> str | None:
        """By which the server at an address is known; None without keys."""
        if self._keyring is None:
            return None
        if (key := self._keyring.key_of(address)) is None:
            raise UnreachableError(address, "its public key is not known here")
        return key

    def _sweep(self) -> None:
        """Take the news of the connections that nobody uses, and close those that nobody needs.

        News that nobody takes fills a queue, and then libzmq's one thread waits for room in it, for all sockets.
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
