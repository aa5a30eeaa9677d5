"""Tests of nodes.peer; those of several nodes together are in test_peers."""

import asyncio
from pathlib import Path

from common import ids
from common.codec import Reply, Request
from common.errors import StoreError
from common.loopback import MemoryTransport
from common.replication import Fetched, Record
from nodes.journal import Journal
from nodes.peer import Here, Peer, Shared


def test_a_node_is_not_behind_a_peer_that_died(tmp_path: Path) -> None:
    """A peer says that there is more, and dies: then it is silent, and nobody waits for what it had."""
    record = Record(ids.new_id(), "x", None)
    answers = [
        Fetched(journal="j", records=(), next=0, more=True),
        Fetched(journal="j", records=(record,), next=1, more=True),
    ]
    fell: list[str] = []

    async def handle(request: Request) -> Reply:
        del request
        if not answers:
            raise StoreError("it dies")
        return answers.pop(0)

    async def run() -> None:
        journal = Journal(tmp_path / "x.sqlite", "test")
        here = Here("here:1", fell_silent=lambda: fell.append("there:1"))
        peer = Peer(MemoryTransport({"there:1": handle}), "there:1", here, journal)
        assert not await peer.fetch()
        assert (True, False, 0.0) == (peer.silent, peer.whole, peer.behind_s())
        assert not await peer.fetch()
        assert (["there:1"], {"there:1"}) == (fell, here.silent)
        assert [record[:2]] == [tuple(entry) for entry in await journal.read("", 10)]
        answers.append(Fetched(journal="j", records=(), next=1, more=False))
        assert await peer.fetch()
        assert (False, True, set()) == (peer.silent, peer.whole, here.silent)
        peer.close()
        journal.close()

    asyncio.run(run())


def test_callers_share_a_run_that_begins_after_they_came() -> None:
    """A run that is on its way is not joined: it may have missed what the caller wants."""

    async def run() -> None:
        runs = 0
        began, gate = asyncio.Event(), asyncio.Event()

        async def work() -> int:
            nonlocal runs
            runs += 1
            mine = runs
            began.set()
            await gate.wait()
            return mine

        shared = Shared(work)
        first = asyncio.create_task(shared())
        await began.wait()
        later = asyncio.gather(*(shared() for _ in range(3)))
        asyncio.get_running_loop().call_soon(gate.set)
        assert [1, 2, 2, 2] == [await first, *await later]

    asyncio.run(run())
