"""The in-memory twins of the transports, for tests and for the whole system in one process."""

import asyncio
import time
from collections.abc import Callable, Mapping

from common.errors import DisconnectedError, TimedOutError, UnreachableError
from common.protocol import codec
from common.protocol.codec import Reply, Request
from common.rpc.handler import Handler, answer_frame
from common.telemetry import request_context


class MemoryServers:
    """Handlers by address, which are called with the same encoding as on a socket, and the faults of the addresses.

    Args:
        handlers: the handler at each address.

    Attributes:
        called: the address and request of each call, in order, also of those that failed.
    """

    def __init__(self, handlers: Mapping[str, Handler]) -> None:
        self._handlers = dict(handlers)
        self._dead: set[str] = set()
        self._hung: set[str] = set()
        self._cut: set[str] = set()
        self.called: list[tuple[str, Request]] = []

    def kill(self, address: str) -> None:
        """Make the address unreachable from now on."""
        self._dead.add(address)

    def hang(self, address: str) -> None:
        """Make the address receive requests and never answer, from now on."""
        self._hung.add(address)

    def cut(self, address: str) -> None:
        """Make the address handle each request, and break the connection before its reply, from now on."""
        self._cut.add(address)

    def revive(self, address: str) -> None:
        """Undo all faults of the address."""
        for faults in (self._dead, self._hung, self._cut):
            faults.discard(address)

    def _reach(self, address: str, request: Request) -> None:
        """Note a call; raises UnreachableError if nothing listens at the address."""
        self.called.append((address, request))
        if address in self._dead or address not in self._handlers:
            raise UnreachableError(address, "no connection")

    async def _exchange(self, address: str, request: Request) -> Reply:
        """The reply of the handler; raises DisconnectedError if the connection is cut."""
        sent = codec.encode(request, request_context.current())
        frame = codec.encode(await answer_frame(self._handlers[address], sent))
        if address in self._cut:
            raise DisconnectedError(address, "the connection broke before the reply")
        return codec.decode_reply(frame)


class MemoryTransport(MemoryServers):
    """The twin of `common.rpc.pooled.PooledTransport`.

    Args:
        handlers: see MemoryServers.
        sleep: waits for a number of seconds; a test passes a function that advances its own clock.
    """

    def __init__(self, handlers: Mapping[str, Handler], *, sleep: Callable[[float], object] = time.sleep) -> None:
        super().__init__(handlers)
        self._sleep = sleep

    def call(self, address: str, request: Request, *, timeout_s: float) -> Reply:
        """See common.rpc.transport.Transport."""
        self._reach(address, request)
        if address in self._hung:
            self._sleep(timeout_s)
            raise _timed_out(address, timeout_s)
        return asyncio.run(self._exchange(address, request))


class AsyncMemoryTransport(MemoryServers):
    """The twin of `common.rpc.pipelined.PipelinedTransport` as an AsyncTransport."""

    async def call(self, address: str, request: Request, *, timeout_s: float) -> Reply:
        """See common.rpc.transport.AsyncTransport."""
        self._reach(address, request)
        try:
            async with asyncio.timeout(timeout_s):
                if address in self._hung:
                    await asyncio.Event().wait()
                return await self._exchange(address, request)
        except TimeoutError as error:
            raise _timed_out(address, timeout_s) from error


def _timed_out(address: str, timeout_s: float) -> TimedOutError:
    return TimedOutError(address, f"no reply in {timeout_s:.3g} s")
