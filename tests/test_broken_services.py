"""The checker against services that break one promise each: the product's own parts in memory, one of them broken.

Three nodes with a memory (the map) and a disk (the journal) each, the real registry, the real fallback of the facade.
Each scenario without any sabotage breaks nothing; with it the checker names what was broken.
"""

import random
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict
from typing import Any

import pytest

from common import ids, rpc
from common.codec import Reply, Request
from common.errors import OutcomeUnknownError, PeerError, StoreError, ThreefoldError, UnavailableError
from common.handling import Handler
from common.loopback import MemoryTransport
from common.replication import Fetched
from common.wire import Append, Entry, Known, Leased, Lookup, Register, Stored
from facade.client import Client
from facade.routing import Limits, Suspects
from nodes.log import LoggingNode
from nodes.store import Claim, Figures
from registry.directory import LEASE_S, Directory
from scripts.checker import Outcome, Read, Write, check

REGISTRY = "registry:1"
NODES = ("node:1", "node:2", "node:3")
EVERYONE = frozenset((0, 1, 2))


class NodeStore:
    """The store of one node: a memory at each member that it sees, and a disk of its own."""

    def __init__(self, world: "World", number: int) -> None:
        self.world = world
        self.number = number

    def side(self) -> Sequence[int]:
        """The members that this node's member sees."""
        return [other for other in self.world.side_of(self.number) if other in self.world.alive]

    async def append(self, message_id: str, text: str, key: str | None = None) -> None:
        """See Store."""
        del key
        self.world.disks[self.number][message_id] = text
        owner = hash(message_id) % 3
        for copy in range(1 + self.world.backups):
            if (member := (owner + copy) % 3) in self.side():
                self.world.memories[member][message_id] = text

    async def append_all(self, entries: Sequence[Entry]) -> None:
        """See Store."""
        for entry in entries:
            await self.append(*entry)

    async def claim(self, key: str, message_id: str, text_digest: str) -> Claim:
        """See Store."""
        return self.world.claims.setdefault(key, Claim(message_id, text_digest))

    async def read(self, after: str, limit: int, **bounds: Any) -> list[Entry]:
        """See Store; nobody asks for bounds here."""
        assert not any(bounds.values())
        found = {Entry(*item) for member in self.side() for item in self.world.memories[member].items()}
        return sorted(entry for entry in found if entry.id > after)[:limit]

    async def expire(self, until: str) -> int:
        """See Store; nothing does here."""
        raise NotImplementedError

    async def tail(self, journal: str, after: int) -> Fetched:
        """See Log; nobody follows here."""
        raise NotImplementedError

    async def figures(self) -> Figures:
        """See Store."""
        return Figures()

    def view(self) -> tuple[str, ...]:
        """See Store."""
        return tuple(f"member-{member}" for member in self.side())


class World:
    """A cluster in memory, with a clock of its own, and what its client saw."""

    def __init__(self) -> None:
        self.now_s = 0.0
        self.backups = 2
        self.replays = True
        self.alive = {0, 1, 2}
        self.isolated: frozenset[int] = frozenset()
        self.memories: list[dict[str, str]] = [{}, {}, {}]
        self.disks: list[dict[str, str]] = [{}, {}, {}]
        self.claims: dict[str, Claim] = {}
        self.writes: list[Write] = []
        self.reads: list[Read] = []
        self.stores = [NodeStore(self, number) for number in range(3)]
        self.directory = Directory({"logging-service": NODES}, {}, clock=lambda: self.now_s)
        self.transport = MemoryTransport(
            {REGISTRY: self._registry, **{NODES[number]: self._node(number) for number in range(3)}}, sleep=self.wait
        )
        self.client = self.client_on(self.transport)
        self.append: Callable[[str, str | None], str] = lambda text, key: self.client.append(ids.new_id(), text, key).id
        self.heartbeat()

    def client_on(self, transport: rpc.Transport) -> Client:
        """The facade's client."""
        chance = random.Random(1)
        return Client(
            transport,
            [REGISTRY],
            Limits(attempt_timeout_s=1.0, deadline_s=10.0),
            suspects=Suspects(),
            clock=lambda: self.now_s,
            sleep=self.wait,
            shuffled=lambda addresses: chance.sample(addresses, len(addresses)),
        )

    def side_of(self, number: int) -> frozenset[int]:
        """Who is on the same side of a split."""
        return self.isolated if number in self.isolated else EVERYONE - self.isolated

    def wait(self, seconds: float) -> None:
        """Time passes, and nodes renew their leases."""
        for _ in range(max(int(seconds), 1)):
            self.now_s += seconds / max(int(seconds), 1)
            self.heartbeat()

    def heartbeat(self) -> None:
        """Every node that can renews its lease; an isolated one cannot reach the registry."""
        self.renew(self.alive - self.isolated)

    def renew(self, numbers: Iterable[int]) -> None:
        """These nodes renew their leases, and tell whom they see."""
        for number in numbers:
            request = Register(name="logging-service", address=NODES[number], view=self.stores[number].view())
            rpc.ask(self.transport, REGISTRY, request, Leased, timeout_s=1.0)

    def kill(self, *numbers: int) -> None:
        """Nodes die with their memory; their disks stay."""
        for number in numbers:
            self.alive.discard(number)
            self.transport.kill(NODES[number])
            self.memories[number].clear()

    def start(self, number: int) -> None:
        """A dead node comes back, and puts what is on its disk into the map."""
        self.alive.add(number)
        self.transport.revive(NODES[number])
        for member in self.stores[number].side():
            if self.replays:
                self.memories[member] |= self.disks[number]
            self.memories[number] |= self.memories[member]

    def post(self, count: int, *, key: str | None = None, sends: int = 1) -> None:
        """Messages one after the other, each sent several times with its own key if there is one."""
        for _ in range(count):
            text = f"w-{len(self.writes)} {'payload' * 3}"
            began_s, outcome, answered = self.now_s, Outcome.OK, []
            for _ in range(sends):
                try:
                    answered.append(self.append(text, key and f"{key}-{len(self.writes)}"))
                except OutcomeUnknownError:
                    outcome = Outcome.INFO
                except (UnavailableError, StoreError):
                    outcome = Outcome.FAIL
            self.now_s += 0.01
            self.writes.append(Write(text, began_s, self.now_s, outcome, tuple(answered)))

    def read(self) -> None:
        """Everything, page by page."""
        self.now_s += 0.01
        began_s, texts, after = self.now_s, [], ""
        while True:
            page = self.client.page(after)
            texts += [entry.msg for entry in page.entries]
            if page.next is None:
                break
            after = page.next
        self.now_s += 0.01
        self.reads.append(Read(texts, began_s, self.now_s))

    def _node(self, number: int) -> Handler:
        async def handle(request: Request) -> Reply:
            node = LoggingNode(NODES[number])
            node.open(self.stores[number])
            return await node.handle(request)

        return handle

    async def _registry(self, request: Request) -> Reply:
        return await self.directory.handle(request)


def two_die(world: World) -> None:
    """Two nodes are killed at once."""
    world.post(30)
    world.read()
    world.kill(0, 1)
    world.post(30)
    world.read()


def all_die(world: World) -> None:
    """All nodes are killed and started again."""
    world.post(30)
    world.kill(0, 1, 2)
    for number in range(3):
        world.start(number)
    world.read()


def split(world: World) -> None:
    """A node with its member is cut off with an old memory, and comes back."""
    _cut_off(world, lambda: world.wait(LEASE_S + 1))


def returning(world: World) -> None:
    """The same, but the node can reach the registry: it is back, and its member has not merged yet."""
    _cut_off(world, lambda: world.renew(EVERYONE))


def _cut_off(world: World, then: Callable[[], None]) -> None:
    world.post(30)
    world.isolated = frozenset({2})
    then()
    for _ in range(20):
        world.post(2)
        world.read()
    world.isolated = frozenset()
    world.start(2)
    world.read()


def answers_lost(world: World) -> None:
    """A node does what it is asked, and its answers are lost."""
    world.transport.cut(NODES[0])
    world.post(30)
    world.transport.revive(NODES[0])
    world.read()


def keys(world: World) -> None:
    """Each message is sent five times with one key."""
    world.post(10, key="k", sends=5)
    world.read()


def all_answers_lost(world: World) -> None:
    """Every node does what it is asked, and all answers are lost."""
    for node in NODES:
        world.transport.cut(node)
    world.post(1)
    for node in NODES:
        world.transport.revive(node)
    world.client = world.client_on(world.transport)
    world.post(5)
    world.read()


def many(world: World) -> None:
    """More messages than one page holds."""
    for number in range(1_200):
        world.memories[0][ids.new_id()] = f"x-{number}"
        world.writes.append(Write(f"x-{number}", world.now_s, world.now_s, Outcome.OK))
    world.post(5)
    world.read()


def fsync_skipped(world: World) -> None:
    """A disk forgets the last writes when its node dies."""
    killed = world.kill

    def kill(*numbers: int) -> None:
        for number in numbers:
            for message_id in sorted(world.disks[number])[-3:]:
                del world.disks[number][message_id]
        killed(*numbers)

    world.kill = kill  # type: ignore[method-assign]


def not_replayed(world: World) -> None:
    """A node that starts does not look at its disk."""
    world.replays = False


def one_backup(world: World) -> None:
    """backup-count 1."""
    world.backups = 1


class EarlyStore(NodeStore):
    """Acknowledges a message, and stores it when the next one comes."""

    _held: tuple[str, str] | None = None

    async def append(self, message_id: str, text: str, key: str | None = None) -> None:
        """See Store."""
        held, self._held = self._held, (message_id, text)
        if held:
            await super().append(*held, key)


class MapFirstStore(NodeStore):
    """Acknowledges a message when it is in the map, and writes it to the disk when the next one comes."""

    _held: tuple[str, str] | None = None

    async def append(self, message_id: str, text: str, key: str | None = None) -> None:
        """See Store."""
        await super().append(message_id, text, key)
        del self.world.disks[self.number][message_id]
        held, self._held = self._held, (message_id, text)
        if held:
            self.world.disks[self.number][held[0]] = held[1]


class CutStore(NodeStore):
    """Cuts long texts."""

    async def append(self, message_id: str, text: str, key: str | None = None) -> None:
        """See Store."""
        await super().append(message_id, text[:20], key)


class UnclaimedStore(NodeStore):
    """Believes that every key is new."""

    async def claim(self, key: str, message_id: str, text_digest: str) -> Claim:
        """See Store."""
        del key
        return Claim(message_id, text_digest)


class SkippingStore(NodeStore):
    """Leaves out the first message of each page but the first."""

    async def read(self, after: str, limit: int, **bounds: Any) -> list[Entry]:
        """See Store."""
        return (await super().read(after, limit + 1, **bounds))[1 if after else 0 :][:limit]


class RepeatingStore(NodeStore):
    """Begins each page with the last message of the one before."""

    async def read(self, after: str, limit: int, **bounds: Any) -> list[Entry]:
        """See Store."""
        return [
            *([Entry(after, self.world.memories[0][after])] if after else []),
            *await super().read(after, limit, **bounds),
        ]


class UnsortedStore(NodeStore):
    """Gives what its own disk has first."""

    async def read(self, after: str, limit: int, **bounds: Any) -> list[Entry]:
        """See Store."""
        own = self.world.disks[self.number]
        return sorted(await super().read(after, limit, **bounds), key=lambda entry: entry.id not in own)


def with_stores(kind: type[NodeStore]) -> Callable[[World], None]:
    """A sabotage of all nodes."""

    def sabotage(world: World) -> None:
        world.stores = [kind(world, number) for number in range(3)]

    return sabotage


def id_per_attempt(world: World) -> None:
    """A facade that makes a new id for each attempt."""

    def append(text: str, key: str | None) -> str:
        del key
        for node in NODES:
            try:
                return rpc.ask(world.transport, node, Append(id=ids.new_id(), msg=text), Stored, timeout_s=1.0).id
            except PeerError:
                continue
        raise UnavailableError("logging-service", "")

    world.append = append


class Uncorrelated:
    """A transport that takes the late answer to an earlier request for the answer to this one."""

    def __init__(self, inner: MemoryTransport) -> None:
        self._inner = inner
        self._late: dict[str, Reply] = {}

    def call(self, address: str, request: Request, *, timeout_s: float) -> Reply:
        """See rpc.Transport."""
        if isinstance(request, Append) and address in self._late:
            return self._late.pop(address)  # and the request is lost with the node that has just died
        reply = self._inner.call(address, request, timeout_s=timeout_s)
        if isinstance(request, Append) and address == NODES[0]:
            self._late[address] = reply
        return reply


def uncorrelated(world: World) -> None:
    """REQ_CORRELATE off."""
    world.client = world.client_on(Uncorrelated(world.transport))


def unknown_told_as_failed(world: World) -> None:
    """A facade that says "certainly not stored" when it does not know."""
    append = world.append

    def told(text: str, key: str | None) -> str:
        try:
            return append(text, key)
        except ThreefoldError as error:
            raise UnavailableError("logging-service", str(error)) from error

    world.append = told


def witness_off(world: World) -> None:
    """A registry that hands out every node with a lease, whatever it sees."""
    _answering(world, lambda: tuple(NODES[number] for number in sorted(world.alive)))


def lease_for_ever(world: World) -> None:
    """A registry in which no lease lapses."""
    _answering(world, lambda: NODES)


def _answering(world: World, serving: Callable[[], tuple[str, ...]]) -> None:
    inner = world.directory.handle

    async def handle(request: Request) -> Reply:
        return Known(name=request.name, values=serving()) if isinstance(request, Lookup) else await inner(request)

    world.directory.handle = handle  # type: ignore[method-assign]


SCENARIOS = [two_die, all_die, split, returning, answers_lost, keys, all_answers_lost, many]


@pytest.mark.parametrize("scenario", SCENARIOS, ids=lambda scenario: scenario.__name__)
def test_a_service_that_keeps_its_promises_is_found_whole(scenario: Callable[[World], None]) -> None:
    """Without any sabotage no scenario breaks anything, and messages are acknowledged in each."""
    world = World()
    scenario(world)
    verdict = check(world.writes, world.reads)

    assert {} == {name: count for name, count in asdict(verdict.broken).items() if count}
    assert verdict.acknowledged > 0


@pytest.mark.parametrize(
    ("sabotage", "scenario", "broken"),
    [
        (fsync_skipped, all_die, "lost"),
        (not_replayed, all_die, "lost"),
        (with_stores(MapFirstStore), all_die, "lost"),
        (one_backup, two_die, "lost"),
        (with_stores(EarlyStore), two_die, "lost"),
        (uncorrelated, two_die, "lost"),
        (id_per_attempt, answers_lost, "duplicate"),
        (lease_for_ever, split, "stale"),
        (witness_off, returning, "stale"),
        (with_stores(UnclaimedStore), keys, "divided"),
        (with_stores(UnclaimedStore), keys, "duplicate"),
        (unknown_told_as_failed, all_answers_lost, "revived"),
        (with_stores(CutStore), two_die, "altered"),
        (with_stores(SkippingStore), many, "lost"),
        (with_stores(RepeatingStore), many, "duplicate"),
        (with_stores(UnsortedStore), two_die, "disorder"),
    ],
)
def test_each_broken_service_is_caught(
    sabotage: Callable[[World], None], scenario: Callable[[World], None], broken: str
) -> None:
    """The checker names the promise that the sabotage breaks."""
    world = World()
    sabotage(world)
    scenario(world)

    assert asdict(check(world.writes, world.reads).broken)[broken] > 0
