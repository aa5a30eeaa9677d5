"""The pipelined transport of facades and nodes: requests are sent without waiting for earlier replies."""

import asyncio
import contextlib
from collections.abc import Callable

from common import hostport
from common.errors import PeerError, UnreachableError
from common.protocol import codec
from common.protocol.codec import Reply, Request
from common.rpc.loop import Loop
from common.rpc.transport import decoded
from common.rpc.zmq.pipeline import IN_FLIGHT, Pipeline, Watcher
from common.rpc.zmq.sockets import new_context
from common.security.keyring import Keyring
from common.telemetry import request_context

PROBE_S = 0.5  # timeout for a host to accept or refuse a connection


class PipelinedTransport:
    """Sends requests through one Pipeline for each address; must be used in one event loop only.

    Args:
        keyring: the keys of this process and of the servers; None: neither encryption nor authentication.
        loop: the event loop of the process; None: the running asyncio loop.
        in_flight: limit on the unanswered requests to one address.
    """

    def __init__(self, keyring: Keyring | None = None, loop: Loop | None = None, *, in_flight: int = IN_FLIGHT) -> None:
        self._keyring = keyring
        self._in_flight = in_flight
        self._loop = loop or asyncio.get_running_loop()
        self._context = new_context()
        self._pipelines: dict[str, Pipeline] = {}
        self._watchers: dict[str, Watcher] = {}

    def watch(self, address: str, watcher: Watcher) -> None:
        """Connect to an address, and call `watcher` whenever the connection is established or lost."""
        self._watchers[address] = watcher
        with contextlib.suppress(PeerError):
            self._pipeline_to(address)

    def is_up(self, address: str) -> bool:
        """True if there is a connection to the address."""
        return address in self._pipelines and bool(self._pipelines[address].up)

    async def refuses(self, address: str) -> bool:
        """True if the host refuses a connection to the port: the process that listened there has ended.

        False if the host accepts one, or does not answer within PROBE_S.
        """
        try:
            async with asyncio.timeout(PROBE_S):
                _, writer = await asyncio.open_connection(*hostport.split(address))
        except ConnectionRefusedError:
            return True
        except (OSError, TimeoutError):
            return False
        writer.close()
        return False

    async def call(self, address: str, request: Request, *, timeout_s: float) -> Reply:
        """Send a request and return the reply, which may be a Failure.

        Raises:
            UnreachableError: nothing was sent.
            DisconnectedError, TimedOutError, FailedError: it was sent, and there is no valid reply.
        """
        return decoded(address, await self.send_when_connected(address, request, timeout_s=timeout_s))

    def send_when_connected(self, address: str, request: Request, *, timeout_s: float) -> "asyncio.Future[bytes]":
        """Send a request with the current request context; unlike `send`, wait for the first connection.

        Returns the frame of the reply as a future.

        Raises:
            UnreachableError: nothing was sent.
        """
        return self._pipeline_to(address).send(codec.encode(request, request_context.current()), timeout_s)

    def send(self, address: str, request: Request, *, timeout_s: float) -> "asyncio.Future[bytes]":
        """Send a request without a request context, and return the frame of the reply as a future.

        Requests to one address are sent in the order of the calls.

        Raises:
            UnreachableError: there is no connection; nothing was sent.
        """
        pipeline = self._pipeline_to(address)
        if not pipeline.up:
            raise UnreachableError(address, "no connection")
        return pipeline.send(codec.encode(request), timeout_s)

    def close(self) -> None:
        """Close all sockets."""
        for pipeline in self._pipelines.values():
            pipeline.close()
        self._pipelines.clear()
        self._context.term()

    def _pipeline_to(self, address: str) -> Pipeline:
        """The pipeline to an address; a new one if the last one is outdated or the server's key has changed."""
        key = self._keyring.key_of(address) if self._keyring else None
        if self._keyring and key is None:
            raise UnreachableError(address, "its public key is not known here")
        pipeline = self._pipelines.get(address)
        if pipeline and (pipeline.outdated or pipeline.server_key != key):
            self._pipelines.pop(address).close()
            pipeline = None
        if pipeline is None:
            watcher = self._watchers.get(address, lambda _address, _up: None)
            pipeline = Pipeline(
                self._loop,
                self._context,
                address,
                self._keyring,
                watch=watcher,
                reconnect=self._reconnect,
                in_flight=self._in_flight,
            )
            self._pipelines[address] = pipeline
        return pipeline

    def _reconnect(self, address: str) -> None:
        """Connect again to a watched address after its server refused the handshake, because libzmq does not."""
        if address in self._pipelines and address in self._watchers:
            with contextlib.suppress(PeerError):
                self._pipeline_to(address)


class WaitingTransport:
    """A blocking Transport on top of a PipelinedTransport, for callers such as greenlets.

    Args:
        pipelines: sends the requests.
        wait: returns the result of a future or raises its error, while the loop continues with other work.
    """

    def __init__(self, pipelines: PipelinedTransport, wait: "Callable[[asyncio.Future[bytes]], bytes]") -> None:
        self._pipelines = pipelines
        self._wait = wait

    def call(self, address: str, request: Request, *, timeout_s: float) -> Reply:
        """See common.rpc.transport.Transport."""
        return decoded(address, self._wait(self._pipelines.send_when_connected(address, request, timeout_s=timeout_s)))
