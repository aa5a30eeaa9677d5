"""The transport of a facade: while one request waits for its reply, others go on."""

from common.codec import Reply, Request
from common.keyring import Keyring
from common.pipeline import PipelinedTransport, decoded
from facade.server.scheduler import Scheduler

IN_FLIGHT = 512  # requests to one address; a node takes 768 of all its clients (nodes.service.CLIENT_REQUESTS)


class GreenletTransport:
    """See common.transport.Transport; for the greenlets of one scheduler.

    Args:
        scheduler: in which a request waits.
        keyring: whose keys are used, and by which servers are known; None: in clear, with whoever answers.
    """

    def __init__(self, scheduler: Scheduler, keyring: Keyring | None = None) -> None:
        self._scheduler = scheduler
        self._pipelines = PipelinedTransport(keyring, scheduler, in_flight=IN_FLIGHT)

    def call(self, address: str, request: Request, *, timeout_s: float) -> Reply:
        """See Transport."""
        frame = self._scheduler.wait(self._pipelines.send_when_connected(address, request, timeout_s=timeout_s))
        return decoded(address, frame)

    def close(self) -> None:
        """Close all sockets."""
        self._pipelines.close()
