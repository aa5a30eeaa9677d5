"""The in-memory twins of the transports, for tests and for the whole system in one process."""

import asyncio
import time
from collections.abc import Callable, Mapping

from common.errors import DisconnectedError, TimedOutError, UnreachableError
from common.protocol import codec
from common.protocol.codec import Reply, Request
from common.rpc.handler import Handler, answer_frame
from common.telemetry import request_context


class Faults:
    """The faults of addresses in memory: dead, hung, or cut. An address without a handler is dead."""

    def __init__(self) -> None:
        self._dead: set[str] = set()
        self._hung: set[str] = set()
        self._cut: set[str] = set()

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


class MemoryTransport(Faults):
    """Calls handlers by address, with the same encoding as on a socket. It can kill, hang, cut and revive an address.

    Args:
        handlers: the handler at each address.
        sleep: waits for a number of seconds; a test passes a function that advances its own clock.

    Attributes:
        called: the address and request of each call, in order, also of those that failed.
    """

    def __init__(self, handlers: Mapping[str, Handler], *, sleep: Callable[[float], object] = time.sleep) -> None:
        super().__init__()
        self._handlers = dict(handlers)
        self._sleep = sleep
        self.called: list[tuple[str, Request]] = []

    def call(self, address: str, request: Request, *, timeout_s: float) -> Reply:
        """See common.rpc.transport.Transport."""
        self.called.append((address, request))
        if address in self._dead or address not in self._handlers:
            raise UnreachableError(address, "no connection")
        if address in self._hung:
            self._sleep(timeout_s)
            raise TimedOutError(address, f"no reply in {timeout_s:.3g} s")
        sent = codec.encode(request, request_context.current())
        frame = codec.encode(asyncio.run(answer_frame(self._handlers[address], sent)))
        if address in self._cut:
            raise DisconnectedError(address, "the connection broke before the reply")
        return codec.decode_reply(frame)


class AsyncMemoryTransport(Faults):
    """The same for an event loop: the twin of `common.rpc.pipelined.PipelinedTransport` as an AsyncTransport.

    Args:
        handlers: the handler at each address.

    Attributes:
        called: the address and request of each call, in order, also of those that failed.
    """

    def __init__(self, handlers: Mapping[str, Handler]) -> None:
        super().__init__()
        self._handlers = dict(handlers)
        self.called: list[tuple[str, Request]] = []

    async def call(self, address: str, request: Request, *, timeout_s: float) -> Reply:
        """See common.rpc.transport.AsyncTransport."""
        self.called.append((address, request))
        if address in self._dead or address not in self._handlers:
            raise UnreachableError(address, "no connection")
        if address in self._hung:
            await asyncio.sleep(timeout_s)
            raise TimedOutError(address, f"no reply in {timeout_s:.3g} s")
        sent = codec.encode(request, request_context.current())
        try:
            async with asyncio.timeout(timeout_s):
                frame = codec.encode(await answer_frame(self._handlers[address], sent))
        except TimeoutError as error:
            raise TimedOutError(address, f"no reply in {timeout_s:.3g} s") from error
        if address in self._cut:
            raise DisconnectedError(address, "the connection broke before the reply")
        return codec.decode_reply(frame)
