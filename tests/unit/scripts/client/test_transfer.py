"""Tests of scripts.client.transfer, which scripts.export and scripts.import use."""

import asyncio
import json
import random

import pytest

from common import ids
from common.errors import FatalError
from common.protocol.content import MESSAGE_BYTES, Entry
from common.protocol.messages import PAGE_MESSAGES
from common.rpc.memory import MemoryTransport
from facade.client.client import Client
from facade.client.failure_detector import FailureDetector
from facade.client.retry import RetryPolicy
from facade.server.scheduler import Scheduler
from registry.directory import Directory
from scripts.client import transfer
from tests.support.memory_node import MemoryNode, register_nodes
from tests.support.nodes.entries import bare

NODE, REGISTRY = "node:1", "registry:1"


class World:
    """A node and a registry in memory, and a client of both."""

    def __init__(self) -> None:
        self.node = MemoryNode(NODE)
        directory = Directory({}, {}, clock=lambda: 0.0)  # no lease expires
        asyncio.run(register_nodes(directory, [NODE]))
        self.transport = MemoryTransport({NODE: self.node.handle, REGISTRY: directory.handle})
        self.client = Client(
            Scheduler(), self.transport, [REGISTRY], RetryPolicy(1.0, 1.0, rounds=1), detector=FailureDetector()
        )
        self.progress: list[str] = []

    def export(self) -> str:
        """Export everything; returns the text."""
        written: list[str] = []
        count = transfer.export(self.client, written.append, self.progress.append)
        assert len(written) == count
        return "".join(written)

    def load(self, text: str) -> int:
        """Import a text; returns the number of messages."""
        return transfer.import_lines(self.client, text.splitlines(), self.progress.append)


def line(message_id: str, text: str) -> str:
    """One line of an export."""
    return json.dumps({"id": message_id, "msg": text})


def test_an_import_restores_what_was_exported() -> None:
    """All messages of several pages are restored in order, whatever their text; repeating the import adds none."""
    one, two = World(), World()
    texts = ["plain", 'quoted "é" \n 😀 \x00', "x" * MESSAGE_BYTES, *map(str, range(2 * PAGE_MESSAGES))]
    entries = [
        *(Entry(ids.new_id(), text) for text in texts),
        Entry(ids.new_id(), "x", '{"é":"\\"","n":1.5,"on":true}'),
    ]
    asyncio.run(one.node.store(random.Random(1).sample(entries, len(entries))))
    exported = one.export()

    assert len(entries) == two.load(exported) == two.load(exported)
    assert entries == bare(asyncio.run(two.node.journal.read("", 10_000)))
    assert exported == two.export()
    first = json.loads(exported.splitlines()[0])
    assert ["id", "time", "msg"] == list(first)
    assert {"é": '"', "n": 1.5, "on": True} == json.loads(exported.splitlines()[-1])["fields"]
    assert first["time"].endswith("Z")


@pytest.mark.parametrize(
    ("wrong", "error"),
    [
        ("nonsense", "line 2 is not a message: JSON is malformed"),
        ("[]", "line 2 is not a message: Expected `object`"),
        ('{"msg": "x"}', "line 2 is not a message: Object missing required field `id`"),
        ('{"id": "1", "msg": "x"}', "line 2 is not a message: Expected `str` matching regex"),
        (line(ids.new_id(), "x" * (MESSAGE_BYTES + 1)), "line 2 is not a message: Expected `str` of length <= 65536"),
    ],
)
def test_an_invalid_line_is_named(wrong: str, error: str) -> None:
    """The error has the number of the line and the reason."""
    with pytest.raises(FatalError, match=error):
        World().load(f"{line(ids.new_id(), 'fine')}\n{wrong}\n")


def test_empty_lines_are_ignored() -> None:
    """An import skips empty lines."""
    assert 1 == World().load(f"\n{line(ids.new_id(), 'fine')}\n\n")


def test_a_cluster_that_does_not_answer_is_an_error() -> None:
    """The error has the number of messages so far, and says that an import can be repeated."""
    world = World()
    world.transport.kill(NODE)
    with pytest.raises(FatalError, match="the export stopped after 0 messages: logging-service is not available"):
        world.export()
    with pytest.raises(FatalError, match="the import stopped after 0 messages, run it again: logging-service is not"):
        world.load(line(ids.new_id(), "x"))


def test_progress_is_reported() -> None:
    """Export and import report progress after every `progress_messages`."""
    one, two = World(), World()
    asyncio.run(one.node.store([Entry(ids.new_id(), "x") for _ in range(2_500)]))
    exported: list[str] = []
    transfer.export(one.client, exported.append, one.progress.append, progress_messages=1_000)
    transfer.import_lines(two.client, exported, two.progress.append, progress_messages=1_000)

    assert ["1000 messages", "2000 messages"] == one.progress == two.progress
