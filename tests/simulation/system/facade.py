"""A simulated facade, and the history of what its clients saw."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from nodes.replication.core.effects import AppendOutcome, FinishAppend
from tests.chaos.checker import FullRead, Write, WriteOutcome
from tests.simulation.system.node import ReadAnswer, SimulatedNode
from tests.simulation.system.registry import SimulatedRegistry
from tests.simulation.system.world import Network, World

ATTEMPT_S = 1.0  # time-out of one attempt
DEADLINE_S = 10.0  # of a whole request
LOOK_UP_S = 0.5  # time-out of a lookup at one registry
PAUSE_S = 0.05  # between two rounds of attempts
REFUSED = FinishAppend(0, AppendOutcome.REFUSED)
LOWER_S = 10.0  # without a replica that has the session vector, until records of it are regarded as lost


@dataclass
class History:
    """What all clients saw.

    Attributes:
        writes: without idempotency keys.
        reads: of the whole log.
        going_back: number of reads that lacked a record that the same facade had acknowledged or shown before.
        texts: all texts that were sent, by message id.
        keyed: (message id, start, end, outcome) of each write with an idempotency key, by text.
    """

    writes: list[Write] = field(default_factory=list)
    reads: list[FullRead] = field(default_factory=list)
    going_back: int = 0
    texts: dict[str, str] = field(default_factory=dict)
    keyed: dict[str, list[tuple[str, float, float, WriteOutcome]]] = field(default_factory=dict)


class SimulatedFacade:
    """A facade that looks up replicas and retries at other replicas, as the real one does.

    Args:
        world: the clock and the random choices.
        network: carries its requests.
        name: of its host.
        registries: in the order of the configuration.
        nodes: by address.
        history: records the results.
        new_id: makes message ids that rise with time.
    """

    def __init__(
        self,
        world: World,
        network: Network,
        name: str,
        registries: Sequence[SimulatedRegistry],
        nodes: dict[str, SimulatedNode],
        history: History,
        new_id: Callable[[], str],
    ) -> None:
        self._world, self._network, self.name = world, network, name
        self._registries, self._nodes, self._history = registries, nodes, history
        self._new_id = new_id
        self._session: dict[int, int] = {}
        self._behind_s: float | None = None
        self._last: Sequence[str] = ()
        self._seen: set[str] = set()

    # Writes

    def write(self, text: str, done: Callable[[], None], *, key: str | None = None) -> None:
        """Store a text, record its outcome, and call `done`."""
        began_s, message_id = self._world.now_s, self._new_id()
        self._history.texts[message_id] = text
        sent: list[bool] = []

        def attempt(address: str, following: Callable[[], None]) -> None:
            def answered(finish: FinishAppend | None) -> None:
                if finish and finish.outcome is AppendOutcome.STORED:
                    self._stored(text, finish)
                    self._note(text, began_s, WriteOutcome.OK, finish.message_id or message_id, key)
                    done()
                    return
                if finish is None or finish.outcome is not AppendOutcome.REFUSED:
                    sent.append(True)
                following()

            self._call(address, lambda node, back: node.append(message_id, text, key, back), answered)

        def failed() -> None:
            self._note(text, began_s, WriteOutcome.INFO if sent else WriteOutcome.FAIL, message_id, key)
            done()

        self._rounds(began_s + DEADLINE_S, attempt, failed)

    def _stored(self, text: str, finish: FinishAppend) -> None:
        self._seen.add(text)
        self._session[finish.origin] = max(finish.upto, self._session.get(finish.origin, 0))

    def _note(self, text: str, began_s: float, outcome: WriteOutcome, message_id: str, key: str | None) -> None:
        if key is None:
            self._history.writes.append(Write(text, began_s, self._world.now_s, outcome, (message_id,)))
        else:
            found = (message_id, began_s, self._world.now_s, outcome)
            self._history.keyed.setdefault(text, []).append(found)

    # Reads

    def read(self, done: Callable[[], None]) -> None:
        """Read the whole log, record what it showed, and call `done`."""
        began_s, seen = self._world.now_s, set(self._seen)

        def attempt(address: str, following: Callable[[], None]) -> None:
            session = dict(self._session)

            def answered(read: ReadAnswer | None) -> None:
                if not isinstance(read, ReadAnswer) or read.refused or read.behind:
                    if isinstance(read, ReadAnswer) and read.behind:
                        self._is_behind()
                    following()
                    return
                self._shown([self._history.texts[one] for one in read.ids], read.vector, began_s, seen)
                done()

            self._call(address, lambda node, back: node.read(session, back), answered)

        self._rounds(began_s + DEADLINE_S, attempt, done)

    def _shown(self, found: list[str], vector: dict[int, int], began_s: float, seen: set[str]) -> None:
        self._behind_s = None
        for origin, upto in vector.items():
            self._session[origin] = max(upto, self._session.get(origin, 0))
        self._history.going_back += bool(seen - set(found))
        self._seen.update(found)
        self._history.reads.append(FullRead(found, began_s, self._world.now_s))

    def _is_behind(self) -> None:
        """Forget the session vector if no replica has had it for LOWER_S: its records are regarded as lost."""
        if self._behind_s is None:
            self._behind_s = self._world.now_s
        if self._world.now_s - self._behind_s > LOWER_S:
            self._session.clear()
            self._seen.clear()

    def _call(
        self,
        address: str,
        begin: Callable[[SimulatedNode, Callable[[Any], None]], None],
        answered: Callable[[Any], None],
    ) -> None:
        """Make one attempt; `answered` gets the answer, REFUSED if no process runs there, or None without an answer."""
        node, over = self._nodes[address], False
        process = node.process

        def end(answer: Any) -> None:
            nonlocal over
            if not over:
                over = True
                answered(answer)

        def watch() -> None:
            """End the attempt when the process ends, because the connection breaks."""
            if node.process != process:
                end(None)
            elif not over:
                self._world.later(0.02, watch)

        if node.core is None:
            self._world.later(0.001, lambda: end(REFUSED))
            return
        self._world.later(ATTEMPT_S, lambda: end(None))
        watch()

        def back(answer: Any) -> None:
            self._network.carry(address, self.name, lambda: end(answer))

        self._network.carry(self.name, address, lambda: node.deliver_to(process, lambda _core: begin(node, back)))

    # The retry policy

    def _rounds(
        self, ends_s: float, attempt: Callable[[str, Callable[[], None]], None], failed: Callable[[], None]
    ) -> None:
        """Try each listed address once in random order, pause, and repeat until the deadline."""

        def round_() -> None:
            if self._world.now_s >= ends_s:
                failed()
            else:
                self._look_up(0, try_all)

        def try_all(addresses: Sequence[str]) -> None:
            order = self._world.random.sample(list(addresses), len(addresses))

            def following() -> None:
                if self._world.now_s >= ends_s:
                    failed()
                elif order:
                    attempt(order.pop(), following)
                else:
                    self._world.later(PAUSE_S, round_)

            following()

        round_()

    def _look_up(self, index: int, done: Callable[[Sequence[str]], None], *, starting: bool = False) -> None:
        """Ask the registries in their order for the listed addresses; fall back to the last known list."""
        if index == len(self._registries):
            done(() if starting else self._last)
            return

        def found(listed: Sequence[str] | str | None) -> None:
            if listed is None or listed == "starting":
                self._look_up(index + 1, done, starting=starting or listed is not None)
            else:
                self._last = listed
                done(listed)

        self._registries[index].look_up(self.name, LOOK_UP_S, found)
