"""A simulated logging node: the real replication core with a simulated disk, network and clock."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import msgspec

from common.protocol import codec
from common.protocol.content import Entry
from common.protocol.messages import REQUEST_BYTES
from common.protocol.replication import Renew, Renewed, Standing
from nodes.reader import BEHIND_S
from nodes.replication.core.claims import KeyedAppend
from nodes.replication.core.effects import (
    AnswerPeer,
    AppendOutcome,
    AskRegistries,
    Commit,
    Effect,
    FindKey,
    FinishAppend,
    Forward,
    LoadRecords,
    NewIncarnation,
    Opened,
    Send,
    Settings,
)
from nodes.replication.core.machine import DEFAULT, Core
from nodes.replication.core.state import Phase, covers
from nodes.replication.links import REQUEST_S
from nodes.replication.ticker import TICK_S
from nodes.service import STEP_S
from nodes.storage.memory import MemoryTables
from nodes.storage.protocol import Claim, digest
from tests.simulation.system.registry import SimulatedRegistry
from tests.simulation.system.world import SLOW_ONE_IN, Network, World

COMMIT_S = (0.0001, 0.003)  # duration of a commit
SLOW_COMMIT_S = (0.01, 0.08)  # duration of one commit in SLOW_ONE_IN
READ_S = 0.0005  # duration of a disk read, and of a refused connection

Reply = Callable[[Any], None]


@dataclass
class Disk:
    """The disk of a node, which outlives its processes.

    Attributes:
        tables: the journal.
        fails: a fault: commits fail.
        slow_s: a fault: seconds that are added to each commit.
    """

    tables: MemoryTables = field(default_factory=MemoryTables)
    fails: bool = False
    slow_s: float = 0.0


@dataclass(frozen=True)
class ReadAnswer:
    """The answer to a read of a facade.

    Attributes:
        ids: of all records of the node.
        vector: its version vector.
        behind: the node lacked records of the session vector.
        refused: the phase of the core, if it does not serve reads.
    """

    ids: tuple[str, ...] = ()
    vector: dict[int, int] = field(default_factory=dict)
    behind: bool = False
    refused: str = ""


class SimulatedNode:
    """One logging node, which can be killed, restarted, paused, and given another disk.

    Args:
        world: the clock and the random choices.
        network: carries its messages.
        address: host:port.
        configured: addresses of all nodes.
        registries: in the order of the configuration.
        settings: of the replication core.
    """

    core_type: type[Core] = Core

    def __init__(
        self,
        world: World,
        network: Network,
        address: str,
        configured: Sequence[str],
        registries: Sequence[SimulatedRegistry],
        settings: Settings = DEFAULT,
    ) -> None:
        self.world, self.network, self.address = world, network, address
        self._configured, self._registries, self._settings = configured, registries, settings
        self.nodes: dict[str, SimulatedNode] = {}
        self.disk = Disk()
        self.core: Core | None = None
        self.process = 0  # counts the processes at this address
        self.hung_s: float | None = None
        self.stores: Callable[[str], None] = lambda _message_id: None
        self._inbox: list[Callable[[Core], object]] = []
        self._tokens = 0
        self._waiting: dict[int, Reply] = {}
        self._reads: list[Callable[[], bool]] = []
        self._keyed: dict[int, KeyedAppend] = {}
        self._registry_ids: dict[str, int] = {}
        self._renewed_s = float("-inf")
        self._flushing = False

    # Life

    def start(self) -> None:
        """Start a process on the current disk."""
        self.process += 1
        tables = self.disk.tables
        opened = Opened(self._draw(), dict(tables.vector), tables.in_sync)
        self.core = self.core_type(self.address, opened, self._configured, self._settings, now_s=self.world.now_s)
        self._registry_ids, self._renewed_s = {}, float("-inf")
        for other in self.nodes.values():
            if other is not self:
                other.deliver(lambda core: core.connection(self.address, self.world.now_s, up=True))
                if other.core is None:
                    self.core.connection(other.address, self.world.now_s, up=False, refused=True)
        process = self.process

        def serve() -> None:
            self.deliver_to(process, lambda core: core.serve(self.world.now_s))

        self.world.later(self.world.random.uniform(0.0, 0.5), serve)
        self._tick(process)

    def kill(self) -> None:
        """Kill the process; everything that is not on the disk is lost."""
        self.core = None
        self.hung_s = None
        self.process += 1
        self._inbox, self._reads = [], []
        self._waiting = {}  # callers learn from the network that the connection broke
        for other in self.nodes.values():
            if other is not self:
                self.network.reset(self.address, other.address)
                self.network.reset(other.address, self.address)
                if self.network.works(self.address, other.address) and self.network.works(other.address, self.address):
                    delay_s = self.world.random.uniform(0.0005, 0.005)
                    self.world.later(delay_s, partial(self._report_end, other, self.process))

    def _report_end(self, other: "SimulatedNode", process: int) -> None:
        """Inform another node that connections to this one are refused, unless it has been restarted."""
        if self.process == process:
            other.deliver(lambda core: core.connection(self.address, self.world.now_s, up=False, refused=True))

    def hang(self) -> None:
        """Pause the process, as SIGSTOP does."""
        if self.core and self.hung_s is None:
            self.hung_s = self.world.now_s

    def resume(self) -> None:
        """Resume the process; it handles messages that arrived meanwhile before its timers."""
        if self.core is None or self.hung_s is None:
            return
        paused_s, self.hung_s = self.world.now_s - self.hung_s, None
        if paused_s > self._settings.standstill_s:
            self.core.stood_still(paused_s, self.world.now_s)
        inbox, self._inbox = self._inbox, []
        for action in inbox:
            action(self.core)
        self._flush()

    def leave(self) -> None:
        """Stop the process, as SIGTERM does; kill it if it takes too long."""
        if not self.core or self.hung_s is not None:
            self.kill()
            return
        self.core.leave(self.world.now_s)
        process = self.process
        ends_s = self.world.now_s + 2.0

        def look() -> None:
            if self.process == process and self.core:
                if self.core.left:
                    self.world.later(1.0, lambda: self.kill() if self.process == process else None)
                elif self.world.now_s >= ends_s:
                    self.kill()
                else:
                    self.world.later(0.02, look)

        look()

    def _draw(self) -> int:
        """A random incarnation."""
        return self.world.random.getrandbits(62) | 1

    def deliver_to(self, process: int, action: Callable[[Core], object]) -> None:
        """Like `deliver`, but only to that process, not to a later one at this address."""
        if self.process == process:
            self.deliver(action)

    def deliver(self, action: Callable[[Core], object]) -> None:
        """Run an action with the core: now, or after the process has resumed; drop it if no process runs."""
        if self.core is None:
            return
        if self.hung_s is not None:
            self._inbox.append(action)
            return
        action(self.core)
        self._flush()

    def _tick(self, process: int) -> None:
        if self.process != process or self.core is None:
            return
        if self.hung_s is None:
            self.core.tick(self.world.now_s)
            self._flush()
        self.world.later(TICK_S, lambda: self._tick(process))

    def is_ready(self) -> bool:
        """True if the node serves clients."""
        return self.core is not None and self.core.phase is Phase.READY and not self.core.replica.read_only

    # What the core asks for

    def _flush(self) -> None:
        """Perform the effects of the core at the end of this moment, so that simultaneous requests form one batch."""
        if not self._flushing:
            self._flushing = True
            process = self.process
            self.world.later(0.0, lambda: self._run(process))

    def _run(self, process: int) -> None:
        """Perform the effects of the core, and schedule its next timer."""
        self._flushing = False
        if self.core is None or self.process != process or self.hung_s is not None:
            return
        for effect in self.core.take(self.world.now_s):
            self._do(effect)
        due_s = self.core.due_s()
        if due_s is not None:
            self._nudge(max(due_s - self.world.now_s, 0.0) + 1e-6)
        self._reads = [read for read in self._reads if not read()]

    def _nudge(self, delay_s: float) -> None:
        """Run the core again after a delay."""
        process = self.process
        self.world.later(delay_s, lambda: self.deliver_to(process, lambda _core: None))

    def _do(self, effect: Effect) -> None:
        match effect:
            case Send():
                self._send(effect)
            case AnswerPeer(token=token, message=message):
                self._reply(token, message)
            case FinishAppend(token=token):
                self._reply(token, effect)
            case Forward(token=token, owner=owner):
                self._forward(token, owner)
            case AskRegistries(message=message):
                self._ask(message)
            case _:
                self._use_disk(effect)

    def _reply(self, token: Any, message: object) -> None:
        if reply := self._waiting.pop(token, None):
            reply(message)

    def _use_disk(self, effect: Commit | LoadRecords | FindKey | NewIncarnation) -> None:
        process, world, tables = self.process, self.world, self.disk.tables
        match effect:
            case Commit():
                world.later(self._commit_s(), lambda: self._commit(process, effect))
            case LoadRecords(address=address, origin=origin, after=after, upto=upto):
                found = tables.load(origin, after, upto)
                self._after_reading(lambda core: core.loaded(address, found, world.now_s))
            case FindKey(key=key):
                claim = tables.keys.get(key) or Claim("", "")
                self._after_reading(lambda core: core.key_found(key, claim.message_id, claim.digest, world.now_s))
            case NewIncarnation() if not self.disk.fails:
                incarnation = self._draw()
                self._after_reading(lambda core: core.begin_incarnation(incarnation, world.now_s))

    def _after_reading(self, action: Callable[[Core], object]) -> None:
        process = self.process
        self.world.later(READ_S, lambda: self.deliver_to(process, action))

    def _commit_s(self) -> float:
        usual = self.world.random.randrange(SLOW_ONE_IN) > 0
        return self.disk.slow_s + self.world.random.uniform(*(COMMIT_S if usual else SLOW_COMMIT_S))

    def _commit(self, process: int, commit: Commit) -> None:
        """Finish a commit, also if the process is paused, but not if it has ended."""
        if self.process != process or self.core is None:
            return
        if self.disk.fails:
            self.deliver(lambda core: core.commit_failed("the disk is full", self.world.now_s))
            return
        self.disk.tables.commit(commit.ranges, commit.in_sync)
        self.deliver(lambda core: core.committed(commit, self.world.now_s))

    # Peers

    def _send(self, effect: Send) -> None:
        """Send a request to a peer; the core gets its answer, or None after a time-out or a refusal."""
        process, other = self.process, self.nodes.get(effect.address)
        done = False
        assert len(codec.encode(effect.message)) <= REQUEST_BYTES

        def answer(message: Any) -> None:
            nonlocal done
            if not done and self.process == process:
                done = True
                address, number, request = effect.address, effect.number, effect.message
                self.deliver(lambda core: core.answered(address, number, request, message, self.world.now_s))

        self.world.later(REQUEST_S, lambda: answer(None))
        if other is None or other.core is None:
            self.world.later(READ_S, lambda: answer(None))
            return

        def back(message: Any) -> None:
            self.network.carry(effect.address, self.address, lambda: answer(message))

        def arrive() -> None:
            other.deliver_to(other.process, lambda core: other.request(core, effect.message, back))

        self.network.carry(self.address, effect.address, arrive)

    def request(self, core: Core, message: Any, reply: Reply) -> None:
        """Handle a request of a peer; `reply` gets the answer."""
        self._tokens += 1
        self._waiting[self._tokens] = reply
        core.request(self._tokens, message, self.world.now_s)

    def _forward(self, token: Any, owner: str) -> None:
        """Forward a write with an idempotency key to the replica that decides about the key."""
        reply, append = self._waiting.pop(token, None), self._keyed.pop(token)
        other = self.nodes[owner]
        if reply is None:
            return
        if other.core is None:
            reply(FinishAppend(token, AppendOutcome.REFUSED))
            return

        def back(found: Any) -> None:
            self.network.carry(owner, self.address, lambda: self.deliver(lambda _core: reply(found)))

        def arrive() -> None:
            other.deliver(
                lambda _core: other.append(append.entry.id, append.entry.msg, append.entry.key, back, forwarded=True)
            )

        self.network.carry(self.address, owner, arrive)

    # Registries

    def _ask(self, message: Any) -> None:
        """Send a renewal to all registries at once, any other request to one after the other."""
        if isinstance(message, Renew):
            answers: dict[str, tuple[Renewed | None, bool]] = {}
            for registry in self._registries:
                self._renew(registry, message, partial(self._renewed, answers, registry.address, message))
        else:
            self._decide(message, 0)

    def _renew(
        self,
        registry: SimulatedRegistry,
        message: Renew,
        done: Callable[[Renewed | None, bool], None],
        *,
        again: bool = True,
    ) -> None:
        """Renew the lease at one registry, and repeat at once if the registry has restarted since the last renewal."""
        known, began_s = self._registry_ids.get(registry.address, 0), self.world.now_s

        def answered(reply: Renewed | None, sent: bool) -> None:
            if sent:
                self._renewed_s = max(began_s, self._renewed_s)
            if again and reply is not None and reply.registry != known:
                self._registry_ids[registry.address] = reply.registry
                self._renew(registry, message, done, again=False)
            else:
                done(reply, sent)

        registry.ask(self, msgspec.structs.replace(message, registry=known), self._settings.registry_s, answered)

    def _renewed(self, answers: Any, name: str, message: Renew, reply: Renewed | None, sent: bool) -> None:
        """Collect the answers of all registries; the first one that answered, in configuration order, decides."""
        if self.core is None:
            return
        answers[name] = (reply, sent)
        if len(answers) < len(self._registries):
            return
        now_s, replies = self.world.now_s, [answers[registry.address] for registry in self._registries]
        first = next((reply for reply, _ in replies if reply is not None), None)
        others = [other for other, _ in replies if other is not None and other is not first]
        self.core.registry_answered(message, first, now_s, renewed_s=self._renewed_s, others=others)

    def _decide(self, message: Any, index: int, starting: Renewed | None = None) -> None:
        """Ask the registries in their order until one that is not starting answers."""
        if self.core is None:
            return
        if index == len(self._registries):
            self.core.registry_answered(message, starting, self.world.now_s, renewed_s=self._renewed_s)
            return

        def answered(reply: Renewed | None, _sent: bool) -> None:
            if self.core is None:
                return
            if reply is None or reply.standing is Standing.STARTING:
                self._decide(message, index + 1, starting or reply)
            else:
                self._inform_others(message, index, reply)

        self._registries[index].ask(self, message, self._settings.registry_s, answered)

    def _inform_others(self, message: Any, index: int, reply: Renewed) -> None:
        """Send a new in-sync set to the other registries before this replica relies on it."""
        others = [registry for number, registry in enumerate(self._registries) if number != index]
        missing = {registry.address for registry in others}
        process = self.process

        def done(name: str) -> None:
            if name in missing:
                missing.discard(name)
                if not missing and self.core and self.process == process:
                    self.core.registry_answered(message, reply, self.world.now_s, renewed_s=self._renewed_s)

        if not others or reply.in_sync.find(self.core.replica.identity) is None:  # type: ignore[union-attr]
            missing.clear()
            missing.add("")
            done("")
            return
        renew = Renew(
            node=self.address,
            incarnation=self.core.replica.incarnation,  # type: ignore[union-attr]
            registry=0,
            in_sync=reply.in_sync,
            ready=self.core.phase is not Phase.JOINING,  # type: ignore[union-attr]
        )
        for registry in others:
            self._renew(registry, renew, lambda _reply, _sent, name=registry.address: done(name))  # type: ignore[misc]
            self.world.later(3.0, partial(self.deliver_to, process, partial(_finish, done, registry.address)))

    # Clients

    def append(self, message_id: str, text: str, key: str | None, reply: Reply, *, forwarded: bool = False) -> None:
        """Handle an append of a facade, or one that another node forwards; `reply` gets a FinishAppend."""
        if self.core is None:
            return
        self._tokens += 1
        token = self._tokens
        self._waiting[token] = reply
        self.world.later(STEP_S, lambda: self._give_up(token))
        if key is None:
            self.core.append(token, [Entry(message_id, text)], self.world.now_s)
            return
        entry = Entry(message_id, text, key=key)
        append = KeyedAppend(token, entry, digest(entry), forwarded)
        self._keyed[token] = append
        self.core.append_keyed(append, self.world.now_s)

    def _give_up(self, token: int) -> None:
        """Answer an append that took too long with an unknown outcome."""
        if reply := self._waiting.pop(token, None):
            self.deliver(lambda _core: reply(FinishAppend(token, AppendOutcome.UNKNOWN)))

    def read(self, session: dict[int, int], reply: Reply) -> None:
        """Handle a read of the whole log; `reply` gets a ReadAnswer."""
        if self.core is None:
            return
        reading = _PendingRead(self.core, self.disk.tables, session, reply, self._flush, self.world.now_s)
        if not reading.advance(self.world.now_s):
            self._reads.append(lambda: reading.advance(self.world.now_s))
            for delay_s in (BEHIND_S, STEP_S):
                self._nudge(delay_s + 0.001)


@dataclass
class _PendingRead:
    """A read that waits until the node has the session vector, then until its records are confirmed."""

    core: Core
    tables: MemoryTables
    session: dict[int, int]
    reply: Reply
    ask: Callable[[], None]
    began_s: float
    shown: tuple[tuple[str, ...], dict[int, int]] | None = None

    def advance(self, now_s: float) -> bool:
        """Answer the read if possible; True if it is answered or given up."""
        core = self.core
        if core.phase is not Phase.READY:
            self.reply(ReadAnswer(refused=core.phase.value))
            return True
        if self.shown is None and not covers(core.replica.vector, self.session):
            if now_s - self.began_s >= BEHIND_S:
                self.reply(ReadAnswer(behind=True))
            return now_s - self.began_s >= BEHIND_S
        if self.shown is None:
            self.shown = tuple(self.tables.ids()), core.replica.pending_vector()
        ids, heads = self.shown
        if core.may_show(heads):
            self.reply(ReadAnswer(ids, dict(core.replica.recent_of(heads))))
            return True
        if core.ask_whether_confirmed(heads, now_s):
            self.ask()
        return now_s - self.began_s > STEP_S


def _finish(done: Callable[[str], None], name: str, _core: Core) -> None:
    """Call `done`; ignores the core that `deliver` passes."""
    done(name)
