"""A simulated registry process around the real in-sync registry."""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from common.protocol.replication import Admit, Bootstrap, Fence, Renew, Renewed
from registry.in_sync import InSyncDirectory
from tests.simulation.system.world import Network, World

if TYPE_CHECKING:
    from tests.simulation.system.node import SimulatedNode

LOOK_S = 0.25  # between two calls of InSyncDirectory.observe


class SimulatedRegistry:
    """One registry process, which can be killed, restarted, paused and resumed.

    Args:
        world: the clock and the random choices.
        network: carries requests and answers.
        address: host:port.
    """

    registry_type: type[InSyncDirectory] = InSyncDirectory

    def __init__(self, world: World, network: Network, address: str) -> None:
        self._world, self._network, self.address = world, network, address
        self.directory: InSyncDirectory | None = None
        self.process = 0
        self.hung = False
        self._inbox: list[Callable[[], None]] = []

    def start(self) -> None:
        """Start a process with an empty state."""
        self.process += 1
        self.directory = self.registry_type(lambda: self._world.now_s, lambda: self._world.random.getrandbits(62) | 1)
        self._look(self.process)

    def kill(self) -> None:
        """Kill the process; its whole state is lost."""
        self.process += 1
        self.directory, self.hung, self._inbox = None, False, []

    def hang(self) -> None:
        """Pause the process, as SIGSTOP does."""
        self.hung = self.directory is not None

    def resume(self) -> None:
        """Resume the process; it handles the requests that arrived meanwhile."""
        self.hung = False
        inbox, self._inbox = self._inbox, []
        for action in inbox:
            action()

    def _look(self, process: int) -> None:
        if self.process == process and self.directory:
            if not self.hung:
                self.directory.observe()
            self._world.later(LOOK_S, lambda: self._look(process))

    def ask(
        self, node: "SimulatedNode", message: Any, timeout_s: float, done: Callable[[Renewed | None, bool], None]
    ) -> None:
        """Send a request of a node; `done` gets the answer or None, and whether the request may have arrived."""
        over, process, own = False, self.process, node.process

        def end(reply: Renewed | None, sent: bool) -> None:
            nonlocal over
            if not over and node.process == own:
                over = True
                node.deliver(lambda _core: done(reply, sent))

        reachable = self._network.works(node.address, self.address) and self._network.works(self.address, node.address)
        if self.directory is None and reachable:
            self._world.later(0.001, lambda: end(None, False))
            return
        self._world.later(timeout_s, lambda: end(None, True))

        def arrive() -> None:
            if self.process == process:
                self._serve(lambda: self._network.carry(self.address, node.address, self._answer(message, end)))

        self._network.carry(node.address, self.address, arrive)

    def _answer(self, message: Any, end: Callable[[Renewed | None, bool], None]) -> Callable[[], None]:
        directory = self.directory
        assert directory
        handlers: dict[type, Any] = {
            Renew: directory.renew,
            Fence: directory.fence,
            Admit: directory.admit,
            Bootstrap: directory.bootstrap,
        }
        reply = handlers[type(message)](message)
        return lambda: end(reply, True)

    def look_up(self, facade: str, timeout_s: float, done: Callable[[Any], None]) -> None:
        """Look up the listed replicas; `done` gets their addresses, "starting", or None without an answer."""
        over, process = False, self.process

        def end(found: Any) -> None:
            nonlocal over
            if not over:
                over = True
                done(found)

        if self.directory is None and self._network.works(facade, self.address):
            self._world.later(0.001, lambda: end(None))
            return
        self._world.later(timeout_s, lambda: end(None))

        def arrive() -> None:
            if self.process == process:
                self._serve(answer)

        def answer() -> None:
            listed = self.directory.listed() if self.directory else None
            found = "starting" if listed is None else listed
            self._network.carry(self.address, facade, lambda: end(found))

        self._network.carry(facade, self.address, arrive)

    def _serve(self, action: Callable[[], None]) -> None:
        """Handle a request now, or after the process has resumed."""
        if self.hung:
            self._inbox.append(action)
        elif self.directory:
            action()
