"""Tests of nodes.peers: real journals, and real sockets between nodes in one event loop."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from common import ids
from common.codec import Reply, Request
from common.errors import StoreError
from common.pool import ZmqTransport
from common.replication import Fetch, Fetched, Record, Scope, Sync
from common.serving import Server
from common.wire import Code, Entry, Failure, Known, Lookup, Ping
from nodes.audit import Audit
from nodes.journal import Cursor, Journal
from nodes.log import LoggingNode
from nodes.peers import Peers
from scripts.ports import free_addresses
from tests.support import becomes, serving


@dataclass
class Node:
    """A node with a journal and peers, and nothing else."""

    address: str
    journal: Journal
    peers: Peers

    async def accept(self, text: str) -> Entry:
        """A message that this node accepted."""
        entry = Entry(ids.new_id(), text)
        await self.journal.append(*entry)
        return entry


@asynccontextmanager
async def node(folder: Path, address: str, others: Sequence[str]) -> AsyncIterator[Node]:
    """A node that answers its peers at a real address until the block ends."""
    journal = Journal(folder / f"{address.rpartition(':')[2]}.sqlite", "test")
    transport, stop = ZmqTransport(), asyncio.Event()
    peers = Peers(transport, [], address=address, journal=journal)
    peers.meet(others)
    logging_node = LoggingNode(address)
    logging_node.meet(peers, Audit(journal, peers))
    serving = asyncio.create_task(Server(address, logging_node.handle).serve(stop))
    try:
        yield Node(address, journal, peers)
    finally:
        peers.close()
        stop.set()
        await serving
        transport.close()
        journal.close()


@asynccontextmanager
async def pair(folder: Path) -> AsyncIterator[tuple[Node, Node]]:
    """Two nodes that know each other."""
    one, two = free_addresses(2)
    async with node(folder, one, [two]) as first, node(folder, two, [one]) as second:
        yield first, second


def test_what_one_node_accepted_is_in_the_journal_of_the_other_after_a_fetch(tmp_path: Path) -> None:
    """A fetch brings all that was accepted before it, whatever it takes in pages, and its keys."""

    async def run() -> None:
        async with pair(tmp_path) as (first, second):
            entries = [Entry(ids.new_id(), "x" * 5_000) for _ in range(500)]  # 2.5 MB: several pages
            await asyncio.gather(*(first.journal.append(*entry) for entry in entries[:-1]))
            await first.journal.append(*entries[-1], "the-key")
            assert await second.peers.fetch()
            assert entries == await second.journal.read("", 1_000)
            assert entries[-1].id == getattr(await second.journal.claimed("the-key"), "message_id", None)
            assert [] == list((await second.journal.since(0)).records)  # not its own to pass on

    asyncio.run(run())


def test_nodes_fetch_from_each_other_all_the_time(tmp_path: Path) -> None:
    """Soon every node has every message, without being asked."""

    async def run() -> None:
        async with (
            pair(tmp_path) as (first, second),
            first.peers.kept(),
            second.peers.kept(),
        ):
            entries = [await first.accept("a"), await second.accept("b")]
            await becomes(entries, lambda: first.journal.read("", 10))
            await becomes(entries, lambda: second.journal.read("", 10))

    asyncio.run(run())


def test_a_node_with_a_new_disk_gets_what_a_dead_one_had_accepted(tmp_path: Path) -> None:
    """From a node that it meets for the first time it fetches everything, also what that has from others."""

    async def run() -> None:
        one, two, three = free_addresses(3)
        async with node(tmp_path, one, [two]) as first:
            async with node(tmp_path, two, [one]) as second:
                entry = await second.accept("of a node that dies")
                assert await first.peers.fetch()
            async with node(tmp_path, three, [one]) as third:
                assert await third.peers.fetch()
                assert [entry] == await third.journal.read("", 10)

    asyncio.run(run())


def test_a_restarted_node_goes_on_where_it_was(tmp_path: Path) -> None:
    """How far a peer was fetched is in the journal; only what is new travels."""

    async def run() -> None:
        one, two = free_addresses(2)
        async with node(tmp_path, one, []) as first:
            await first.accept("a")
            async with node(tmp_path, two, [one]) as second:
                await second.peers.fetch()
            entry = await first.accept("b")
            async with node(tmp_path, two, [one]) as second:
                cursor = await second.journal.cursor(first.journal.name)
                assert Cursor(1, whole=True) == cursor
                rest = await first.journal.since(cursor.seq)
                assert (Record(*entry, None),) == rest.records
                await second.peers.fetch()
                assert "b" == (await second.journal.read("", 10))[-1].msg

    asyncio.run(run())


def test_a_silent_peer_is_not_waited_for_and_comes_back(tmp_path: Path) -> None:
    """With a dead peer a fetch is not complete, and says so at once; when the peer answers it is complete again."""

    async def run() -> None:
        one, two = free_addresses(2)
        async with node(tmp_path, one, [two]) as first:
            assert not await first.peers.fetch()
            assert not await first.peers.fetch()
            await first.peers.replicate()  # there is nobody
            async with node(tmp_path, two, [one]), first.peers.kept():
                await becomes(True, first.peers.fetch)

    asyncio.run(run())


def test_what_a_dead_node_gave_to_one_survivor_reaches_the_other(tmp_path: Path) -> None:
    """Two nodes fetch from a third one, one of them later: when it dies, they have the same."""

    async def run() -> None:
        one, two, three = free_addresses(3)
        async with node(tmp_path, one, [two, three]) as first, node(tmp_path, two, [one, three]) as second:
            async with node(tmp_path, three, [one, two]) as third:
                before = await third.accept("all have it")
                assert await first.peers.fetch()
                assert await second.peers.fetch()
                last = await third.accept("only the first one fetched it")
                assert await first.peers.fetch()
                own = await second.accept("of the second")
            assert not await second.peers.fetch()
            assert not await second.peers.fetch()
            assert sorted([before, last, own]) == await second.journal.read("", 10)
            assert not await first.peers.fetch()
            assert sorted([before, last, own]) == await first.journal.read("", 10)
            relayed = await first.journal.since(0, Scope.OTHERS, node=two)
            assert own.id not in [record.id for record in relayed.records]  # it is not sent back

    asyncio.run(run())


def test_a_write_can_be_pushed_to_the_disks_of_all_live_nodes(tmp_path: Path) -> None:
    """Replicate returns when the peers have fetched; the same for many at once, both ways."""

    async def run() -> None:
        async with pair(tmp_path) as (first, second):
            entry = await first.accept("a")
            await asyncio.gather(*(found.peers.replicate() for found in [first, second] * 10))
            assert [entry] == await second.journal.read("", 10)

    asyncio.run(run())


def test_a_push_that_nobody_takes_is_an_error(tmp_path: Path) -> None:
    """A peer that is there and cannot store it has not got it."""

    async def run() -> None:
        async with pair(tmp_path) as (first, second):
            await first.accept("a")
            second.journal.broken.set()
            with pytest.raises(StoreError, match="no peer has fetched the message in time"):
                await first.peers.replicate()

    asyncio.run(run())


def test_a_node_that_lost_its_disk_gets_back_what_it_had_accepted(tmp_path: Path) -> None:
    """What its peers had from it comes back, with the keys; until then it does not know everything."""

    async def run() -> None:
        one, two = free_addresses(2)
        async with node(tmp_path, one, [two]) as first:
            async with node(tmp_path, two, [one]) as second:
                own = Entry(ids.new_id(), "accepted before the disk was lost")
                await second.journal.append(*own, "its-key")
                assert await first.peers.fetch()
            for file in tmp_path.glob(f"{two.rpartition(':')[2]}.sqlite*"):
                file.unlink()
            async with node(tmp_path, two, [one]) as second:
                assert not second.peers.whole()
                assert await second.peers.fetch()
                assert second.peers.whole()
                assert [own] == await second.journal.read("", 10)
                assert own.id == getattr(await second.journal.claimed("its-key"), "message_id", None)
            async with node(tmp_path, two, [one]) as second:  # its disk says that it has everything
                await second.peers.fetch()
                assert second.peers.whole()

    asyncio.run(run())


def test_a_node_answers_peers_only_when_it_has_a_journal(tmp_path: Path) -> None:
    """Before that it is starting; a fetch for another journal is told the name of this one."""

    async def run() -> None:
        (one,) = free_addresses(1)
        fetch = Fetch(node="127.0.0.1:1", journal="", after=7, scope=Scope.ACCEPTED)
        reply = await LoggingNode(one).handle(fetch)
        assert Code.STARTING == getattr(reply, "code", None)
        async with node(tmp_path, one, []) as first:
            reply = await first.peers.handle(fetch)
            assert Fetched(journal=first.journal.name, records=(), next=0, more=True) == reply
            with pytest.raises(StoreError, match=f"{one} could not fetch from 127.0.0.1:1"):
                await first.peers.handle(Sync(node="127.0.0.1:1"))

    asyncio.run(run())


def test_peers_are_whom_the_registry_knows(tmp_path: Path) -> None:
    """Configured and registered nodes are peers; a silent one that is listed no more is forgotten."""
    listed = {"configured-logging-service": ("127.0.0.1:1",), "logging-service": ("127.0.0.1:2", "127.0.0.1:9")}

    async def registry(request: Request) -> Reply:
        match request:
            case Lookup(name=name):
                return Known(name=name, values=listed[name])
            case _:
                return Failure(code=Code.INVALID, reason="")

    async def run(address: str) -> None:
        journal, transport = Journal(tmp_path / "x.sqlite", "test"), ZmqTransport()
        peers = Peers(transport, ["127.0.0.1:3", address], address="127.0.0.1:9", journal=journal)
        await peers.learn()
        assert {"127.0.0.1:1", "127.0.0.1:2"} == set(peers.known())
        assert not await peers.fetch()
        listed["logging-service"] = ()
        await peers.learn()
        assert {"127.0.0.1:1"} == set(peers.known())
        peers.close()
        journal.close()
        await asyncio.get_running_loop().shutdown_default_executor()
        transport.close()

    with serving(registry) as address:
        asyncio.run(run(address))


def test_who_comes_back_has_what_those_accepted_that_are_handed_out(tmp_path: Path) -> None:
    """It waits for them, and for nobody else."""

    async def run(registry: str, one: str, two: str) -> None:
        journal, transport = Journal(tmp_path / "x.sqlite", "test"), ZmqTransport()
        peers = Peers(transport, [registry], address=one, journal=journal)
        peers.meet([two, "127.0.0.1:1"])
        assert not await peers.fetch()
        returning = asyncio.create_task(peers.reach_listed())
        async with node(tmp_path, two, []) as other:
            entry = await other.accept("accepted meanwhile")
            await returning
            assert [entry] == await journal.read("", 10)
        peers.close()
        journal.close()
        await asyncio.get_running_loop().shutdown_default_executor()
        transport.close()

    one, two = free_addresses(2)

    async def registry(_request: Request) -> Reply:
        return Known(name="logging-service", values=(one, two))

    with serving(registry) as address:
        asyncio.run(run(address, one, two))


def test_a_ping_is_no_business_of_peers(tmp_path: Path) -> None:
    """A node that only has a journal tells how far it is, as ever."""

    async def run() -> None:
        (one,) = free_addresses(1)
        async with node(tmp_path, one, []):
            reply = await LoggingNode(one).handle(Ping())
            assert "starting" == getattr(reply, "state", None)

    asyncio.run(run())
