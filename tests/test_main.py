"""Tests of nodes.__main__ beyond those of whole processes in test_processes."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from common import config, rpc
from common.codec import Reply, Request
from common.errors import FatalError, StoreError
from common.loopback import MemoryTransport
from nodes import __main__ as program
from nodes.engine import Engine
from nodes.journal import Journal
from nodes.log import LoggingNode
from nodes.observers import Observers
from nodes.peers import Peers
from nodes.store import MemoryStore
from scripts.ports import write_config


def test_a_node_that_cannot_go_on_says_why_although_no_peer_takes_what_it_has(tmp_path: Path) -> None:
    """The reason is the last word, whatever the peers answer when they are told to fetch before it goes."""
    write_config(tmp_path / "config.toml")
    settings = config.load(tmp_path / "config.toml")
    own, other, _ = settings.service_ips.logging_service

    async def refuse(request: Request) -> Reply:
        raise StoreError(f"no {request}")

    @asynccontextmanager
    async def opening(_transport: rpc.Transport, _node: LoggingNode, _observers: Observers) -> AsyncIterator[Engine]:
        journal = Journal(tmp_path / "x.sqlite", "test")
        peers = Peers(MemoryTransport({other: refuse}), [], address=own, journal=journal)
        peers.meet([other])
        lost: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        lost.set_result("the disk failed")
        try:
            yield Engine(MemoryStore(), lost, peers)
        finally:
            peers.close()
            journal.close()

    with pytest.raises(FatalError, match="the disk failed"):
        asyncio.run(program._run_logging(MemoryTransport({}), own, settings, opening))
