"""Tests of tests.chaos.checker against services in memory, each of which breaks one promise.

There are three nodes with a journal each, the real registry, and the real client of the facade. A message is
acknowledged when it is in the journals of all in-sync replicas. A replica that does not confirm is fenced first, and
catches up before it is listed again. Without any sabotage no scenario breaks a promise; with one the checker names the
promise that was broken.
"""

import asyncio
import random
from collections.abc import Callable, Iterable
from dataclasses import asdict

import pytest

from common import ids
from common.discovery.leases import LEASE_S
from common.errors import OutcomeUnknownError, PeerError, StoreError, ThreefoldError, UnavailableError
from common.protocol.codec import Reply, Request
from common.protocol.content import Entry
from common.protocol.messages import Append, Appended, Lookup, LookupResult, Page
from common.protocol.messages import Read as ReadRequest
from common.protocol.replication import NO_SET, Admit, Fence, Identity, InSyncSet, Renewed
from common.rpc.handler import Handler
from common.rpc.memory import MemoryTransport
from common.rpc.transport import Transport, ask
from facade.client.client import Client
from facade.client.failure_detector import FailureDetector
from facade.client.retry import RetryPolicy
from nodes.replication.core.effects import Range
from registry.directory import Directory
from tests.chaos.checker import FullRead, Write, WriteOutcome, check
from tests.support.facade import InstantScheduler
from tests.support.memory_node import MemoryNode, incarnation_of, register_nodes, renew

REGISTRY = "registry:1"
NODES = ("node:1", "node:2", "node:3")
EVERYONE = frozenset((0, 1, 2))
STEP_S = 1.0  # at most between two renewals of a node


class Replica(MemoryNode):
    """A node with a journal of its own, whose records the other members of its in-sync set confirm."""

    def __init__(self, world: "World", number: int) -> None:
        super().__init__(NODES[number])
        self.world = world
        self.number = number

    async def commit(self, found: Range) -> None:
        """See MemoryNode."""
        for other in await self.world.confirming(self.number):
            await self.world.nodes[other].journal.commit([found], None)


class World:
    """A cluster in memory with a clock of its own, and the history of its clients.

    Attributes:
        confirms: records are acknowledged when all in-sync replicas have them, not only the one that accepted them.
        fences: a replica that does not confirm is taken out of the in-sync set.
        catches_up: a replica that is not in sync gets what it lacks before it is listed.
        reads_journal: a node that starts has the contents of its journal.
        forgets: the number of flushed records that the disk of a node lacks after its death.
    """

    def __init__(self) -> None:
        self.now_s = 0.0
        self.confirms = self.fences = self.catches_up = self.reads_journal = True
        self.forgets = 0
        self.alive = {0, 1, 2}
        self.isolated: frozenset[int] = frozenset()
        self.in_sync = [NO_SET] * 3  # as each node holds it
        self.writes: list[Write] = []
        self.reads: list[FullRead] = []
        self.nodes: list[Replica] = [Replica(self, number) for number in range(3)]
        self.directory = Directory({}, {}, clock=lambda: self.now_s)
        asyncio.run(register_nodes(self.directory, NODES))
        self.transport = MemoryTransport(
            {REGISTRY: self._registry, **{NODES[number]: self._node(number) for number in range(3)}}, sleep=self.wait
        )
        self.client = self.client_on(self.transport)
        self.append: Callable[[str, str | None], str] = lambda text, key: (
            self.client.append(Entry(ids.new_id(), text, key=key or "")).id
        )
        self.reader: Callable[[], Client] = lambda: self.client_on(self.transport)  # makes the client of the next read
        self.lookup: Callable[[], tuple[str, ...]] | None = None  # replaces what the registry lists
        self.wait(0.0)

    def client_on(self, transport: Transport) -> Client:
        """A client of a facade that has not seen any message yet."""
        chance = random.Random(len(self.reads))
        return Client(
            InstantScheduler(self.wait),
            transport,
            [REGISTRY],
            RetryPolicy(attempt_timeout_s=1.0, deadline_s=10.0),
            detector=FailureDetector(),
            clock=lambda: self.now_s,
            shuffled=lambda addresses: chance.sample(addresses, len(addresses)),
        )

    def side_of(self, number: int) -> frozenset[int]:
        """The nodes that a node can reach, with itself."""
        return (self.isolated if number in self.isolated else EVERYONE - self.isolated) & self.alive

    # Time

    def wait(self, seconds: float) -> None:
        """Advance the clock while nodes renew their leases; a node that is cut off cannot reach the registry."""
        ends_s = self.now_s + seconds
        while self.now_s < ends_s:
            self.now_s = min(self.now_s + STEP_S, ends_s)
            self.renew(self.alive - self.isolated)
        self.renew(self.alive - self.isolated)

    def renew(self, numbers: Iterable[int]) -> None:
        """Renew the leases of these nodes."""
        for number in numbers:
            self.in_sync[number] = asyncio.run(self._renewed(number))

    async def _renewed(self, number: int) -> InSyncSet:
        return (await renew(self.directory, NODES[number], self.in_sync[number])).in_sync

    # Replication

    async def confirming(self, number: int) -> list[int]:
        """The replicas that store what a node accepts; members that it cannot reach are fenced."""
        if not self.confirms:
            return [number]
        members = {NODES.index(one.address) for one in self.in_sync[number].members}
        if self.fences and (lost := members - self.side_of(number)):
            if number in self.isolated:
                raise StoreError("a replica does not confirm, and no registry answers")
            await self._change(
                Fence(
                    node=NODES[number], incarnation=incarnation_of(NODES[number]), targets=tuple(map(_identity, lost))
                )
            )
        return sorted(members & self.side_of(number))

    async def _change(self, request: Fence | Admit) -> None:
        reply = await self.directory.handle(request)
        assert isinstance(reply, Renewed)
        for other in self.alive - self.isolated:
            self.in_sync[other] = reply.in_sync

    def kill(self, *numbers: int) -> None:
        """Kill nodes; their journals stay."""
        for number in numbers:
            self.alive.discard(number)
            self.transport.kill(NODES[number])
            tables = self.nodes[number].tables
            for message_id in tables.ids()[len(tables.texts) - self.forgets :]:
                del tables.entries[message_id]

    def start(self, number: int) -> None:
        """Start or reconnect a node; it is listed when it has everything."""
        self.alive.add(number)
        self.transport.revive(NODES[number])
        if not self.reads_journal:
            self.nodes[number] = type(self.nodes[number])(self, number)
        self.renew([number])
        listed = {NODES.index(one.address) for one in self.in_sync[number].listed}
        if number not in listed and (others := listed & self.side_of(number)):
            asyncio.run(self._join(number, min(others)))

    async def _join(self, number: int, other: int) -> None:
        joiner = _identity(number)
        await self._change(Admit(node=NODES[other], incarnation=incarnation_of(NODES[other]), joiner=joiner))
        source, target = self.nodes[other].tables, self.nodes[number].tables
        for origin, upto in source.vector.items() if self.catches_up else ():
            while (have := target.vector.get(origin, 0)) < upto:
                target.commit([source.load(origin, have, upto)], None)
        since = next(one.since for one in self.directory.replicas.in_sync.members if one.address == NODES[number])
        own = incarnation_of(NODES[number])
        await self._change(Admit(node=NODES[number], incarnation=own, joiner=joiner, since=since))

    # Clients

    def post(self, count: int, *, key: str | None = None, sends: int = 1) -> None:
        """Post messages one after the other, each `sends` times, with a key of its own if `key` is given."""
        for _ in range(count):
            text = f"w-{len(self.writes)} {'payload' * 3}"
            began_s, outcome, answered = self.now_s, WriteOutcome.OK, []
            for _ in range(sends):
                try:
                    answered.append(self.append(text, key and f"{key}-{len(self.writes)}"))
                except OutcomeUnknownError:
                    outcome = WriteOutcome.INFO
                except UnavailableError:
                    outcome = WriteOutcome.FAIL
            self.wait(0.01)
            self.writes.append(Write(text, began_s, self.now_s, outcome, tuple(answered)))

    def read(self) -> None:
        """Read everything page by page through the client that `reader` makes."""
        client = self.reader()
        self.wait(0.01)
        began_s, texts, after = self.now_s, list[str](), ""
        while True:
            page = client.page(after)
            texts += [entry.msg for entry in page.entries]
            if page.next is None:
                break
            after = page.next
        self.wait(0.01)
        self.reads.append(FullRead(texts, began_s, self.now_s))

    def _node(self, number: int) -> Handler:
        async def handle(request: Request) -> Reply:
            return await self.nodes[number].handle(request)  # a sabotage may have replaced the node

        return handle

    async def _registry(self, request: Request) -> Reply:
        if self.lookup and isinstance(request, Lookup):
            return LookupResult(name=request.name, values=self.lookup())
        return await self.directory.handle(request)


def _identity(number: int) -> Identity:
    return Identity(NODES[number], incarnation_of(NODES[number]))


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
    """A node is cut off with an old journal, reconnects, and finally the node dies."""
    _cut_off(world, lambda: world.wait(LEASE_S + 1))


def returning(world: World) -> None:
    """The same as `split`, but the node can reach the registry, and is not in sync."""
    _cut_off(world, lambda: world.renew(EVERYONE))


def _cut_off(world: World, then: Callable[[], None]) -> None:
    world.post(30)
    world.isolated = frozenset({2})
    then()
    for _ in range(20):
        world.post(2)
        world.read()
        then()
    world.isolated = frozenset()
    world.start(2)
    for _ in range(10):
        world.read()
    world.kill(2)
    world.read()


def own_writes(world: World) -> None:
    """The same as `split` with a registry that still lists the node, and reads through the facade that wrote."""
    leases_never_lapse(world)
    world.reader = lambda: world.client
    split(world)


def answers_lost(world: World) -> None:
    """A node executes its requests, and its answers are lost."""
    world.transport.cut(NODES[0])
    world.post(30)
    world.transport.revive(NODES[0])
    world.read()


def keys(world: World) -> None:
    """Each message is sent five times with one key."""
    world.post(10, key="k", sends=5)
    world.read()


def all_answers_lost(world: World) -> None:
    """Every node executes its requests, and all answers are lost."""
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
    texts = [f"x-{number}" for number in range(1_200)]
    asyncio.run(world.nodes[0].store([Entry(ids.new_id(), text) for text in texts]))
    world.writes += [Write(text, world.now_s, world.now_s, WriteOutcome.OK) for text in texts]
    world.post(5)
    world.read()


def fsync_skipped(world: World) -> None:
    """A disk loses its last writes when its node dies."""
    world.forgets = 3


def journal_not_read(world: World) -> None:
    """A node that starts does not read its journal."""
    world.reads_journal = False


def own_disk_alone(world: World) -> None:
    """A node acknowledges records that only its own disk has."""
    world.confirms = False


def not_fenced(world: World) -> None:
    """A node does not wait for replicas that do not confirm, and leaves them in the in-sync set."""
    world.fences = False


def not_caught_up(world: World) -> None:
    """A replica is listed again without the records that it lacks."""
    world.catches_up = False


class LateReplica(Replica):
    """A replica that acknowledges a message, and stores it only when the next one arrives."""

    held: Range | None = None

    async def commit(self, found: Range) -> None:
        """See Replica."""
        held, self.held = self.held, found
        if held:
            await super().commit(held)


class CuttingReplica(Replica):
    """A replica that cuts long texts."""

    async def append(self, request: Append) -> Reply:
        """See MemoryNode."""
        cut = tuple(entry._replace(msg=entry.msg[:20]) for entry in request.entries)
        return await super().append(Append(entries=cut))


class KeylessReplica(Replica):
    """A replica that takes every idempotency key for a new one."""

    async def append(self, request: Append) -> Reply:
        """See MemoryNode."""
        return await super().append(Append(entries=tuple(entry._replace(key="") for entry in request.entries)))


class PagingReplica(Replica):
    """A replica that changes the entries of its pages."""

    def paged(self, request: ReadRequest, entries: list[Entry]) -> list[Entry]:
        """The entries of a page in place of the correct ones."""
        raise NotImplementedError

    async def read(self, request: ReadRequest) -> Reply:
        """See MemoryNode."""
        page = await super().read(request)
        assert isinstance(page, Page)
        return Page(entries=tuple(self.paged(request, list(page.entries))), next=page.next, node=page.node)


class SkippingReplica(PagingReplica):
    """A replica that leaves out the first message of each page except the first page."""

    def paged(self, request: ReadRequest, entries: list[Entry]) -> list[Entry]:
        """See PagingReplica."""
        return entries[1:] if request.after else entries


class RepeatingReplica(PagingReplica):
    """A replica that begins each page with the last message of the page before."""

    def paged(self, request: ReadRequest, entries: list[Entry]) -> list[Entry]:
        """See PagingReplica."""
        before = [self.tables.entry(request.after)] if request.after else []
        return [*before, *entries][: request.limit]


class SessionlessReplica(Replica):
    """A replica that ignores the session vector of a read."""

    async def read(self, request: ReadRequest) -> Reply:
        """See MemoryNode."""
        fields = {name: getattr(request, name) for name in request.__struct_fields__ if name != "session"}
        return await super().read(ReadRequest(**fields))


class UnsortedReplica(PagingReplica):
    """A replica that lists the messages that it accepted itself first."""

    def paged(self, request: ReadRequest, entries: list[Entry]) -> list[Entry]:
        """See PagingReplica."""
        del request
        own = {record.id for record in self.tables.records.get(self.incarnation, {}).values()}
        return sorted(entries, key=lambda entry: entry.id not in own)


def with_nodes(kind: type[Replica]) -> Callable[[World], None]:
    """A sabotage that replaces all nodes."""

    def sabotage(world: World) -> None:
        world.nodes = [kind(world, number) for number in range(3)]

    return sabotage


def id_per_attempt(world: World) -> None:
    """A facade that makes a new id for each attempt."""

    def append(text: str, key: str | None) -> str:
        del key
        for node in NODES:
            try:
                entry = Entry(ids.new_id(), text)
                ask(world.transport, node, Append(entries=(entry,)), Appended, timeout_s=1.0)
            except PeerError:
                continue
            return entry.id
        raise UnavailableError("logging-service", "")

    world.append = append


class UncorrelatedTransport:
    """A transport that takes the late answer to an earlier request for the answer to the present one."""

    def __init__(self, inner: MemoryTransport) -> None:
        self._inner = inner
        self._late: dict[str, Reply] = {}

    def call(self, address: str, request: Request, *, timeout_s: float) -> Reply:
        """See rpc.Transport."""
        if isinstance(request, Append) and address in self._late:
            return self._late.pop(address)  # the request is lost with the node that has just died
        reply = self._inner.call(address, request, timeout_s=timeout_s)
        if isinstance(request, Append) and address == NODES[0]:
            self._late[address] = reply
        return reply


def uncorrelated(world: World) -> None:
    """A facade whose sockets do not match answers with requests (REQ_CORRELATE off)."""
    world.client = world.client_on(UncorrelatedTransport(world.transport))


def unknown_reported_as_failed(world: World) -> None:
    """A facade that reports a definite failure when the outcome is unknown."""
    append = world.append

    def append_or_fail(text: str, key: str | None) -> str:
        try:
            return append(text, key)
        except ThreefoldError as error:
            raise UnavailableError("logging-service", str(error)) from error

    world.append = append_or_fail


def fenced_listed(world: World) -> None:
    """A registry that lists every node that renews, whether it is in sync or not."""
    leases = world.directory.replicas.leases
    world.lookup = lambda: tuple(address for address, lease in leases.items() if lease.ends_s > world.now_s)


def leases_never_lapse(world: World) -> None:
    """A registry in which no lease lapses."""
    world.lookup = lambda: NODES


SCENARIOS = [two_die, all_die, split, returning, own_writes, answers_lost, keys, all_answers_lost, many]


@pytest.mark.parametrize("scenario", SCENARIOS, ids=lambda scenario: scenario.__name__)
def test_a_service_that_keeps_its_promises_passes(scenario: Callable[[World], None]) -> None:
    """Without any sabotage no scenario breaks a promise, and messages are acknowledged in each."""
    world = World()
    scenario(world)
    verdict = check(world.writes, world.reads)

    assert {} == {name: count for name, count in asdict(verdict.broken).items() if count}
    assert verdict.acknowledged > 0


@pytest.mark.parametrize(
    ("sabotage", "scenario", "broken"),
    [
        (fsync_skipped, all_die, "lost"),
        (journal_not_read, all_die, "lost"),
        (own_disk_alone, two_die, "lost"),
        (own_disk_alone, two_die, "stale"),
        (with_nodes(LateReplica), two_die, "lost"),
        (uncorrelated, two_die, "lost"),
        (id_per_attempt, answers_lost, "duplicate"),
        (leases_never_lapse, split, "stale"),
        (fenced_listed, returning, "stale"),
        (not_fenced, returning, "stale"),
        (not_caught_up, split, "stale"),
        (with_nodes(SessionlessReplica), own_writes, "stale"),
        (with_nodes(KeylessReplica), keys, "divided"),
        (with_nodes(KeylessReplica), keys, "duplicate"),
        (unknown_reported_as_failed, all_answers_lost, "revived"),
        (with_nodes(CuttingReplica), two_die, "altered"),
        (with_nodes(SkippingReplica), many, "lost"),
        (with_nodes(RepeatingReplica), many, "duplicate"),
        (with_nodes(UnsortedReplica), two_die, "disorder"),
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
