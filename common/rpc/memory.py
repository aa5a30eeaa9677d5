"""The in-memory twin of `pool.ZmqTransport`: for tests, and for anything that wants the whole system in one process."""

import asyncio
import time
from collections.abc import Callable, Mapping

from common.errors import DisconnectedError, TimedOutError, UnreachableError
from common.protocol import codec
from common.protocol.codec import Reply, Request
from common.rpc.handler import Handler, answer_frame
from common.telemetry import request_context


class MemoryTransport:
    """Calls handlers by address, through the same frames as the real one; it can kill, hang and revive an address.

    Args:
        handlers: who answers at which address.
        sleep: how a wait passes, in seconds; a test gives one that moves its own clock.
    """

    def __init__(self, handlers: Mapping[str, Handler], *, sleep: Callable[[float], object] = time.sleep) -> None:
        self._handlers = dict(handlers)
        self._sleep = sleep
        self._dead: set[str] = set()
        self._hung: set[str] = set()
        self._cut: set[str] = set()
        self.called: list[tuple[str, Request]] = []  # each attempt that was sent or refused, in order

    def call(self, address: str, request: Request, *, timeout_s: float) -> Reply:
        """See rpc.Transport."""
        self.called.append((address, request))
        if address in self._dead or address not in self._handlers:
            raise UnreachableError(address, "no connection")
        if address in self._hung:
            self._sleep(timeout_s)
            raise TimedOutError(address, f"no reply in {timeout_s:.3g} s")
        asked = codec.encode(request, request_context.current())
        frame = codec.encode(asyncio.run(answer_frame(self._handlers[address], asked)))
        if address in self._cut:
            raise DisconnectedError(address, "the connection broke before the reply")
        return codec.decode_reply(frame)

    def kill(self, address: str) -> None:
        """From now on nothing can be sent to the address."""
        self._dead.add(address)

    def hang(self, address: str) -> None:
        """From now on the address takes requests and does not answer."""
        self._hung.add(address)

    def cut(self, address: str) -> None:
        """From now on the address does what it is asked, and the connection breaks before its reply."""
        self._cut.add(address)

    def revive(self, address: str) -> None:
        """The address answers again."""
        for faults in (self._dead, self._hung, self._cut):
            faults.discard(address)
