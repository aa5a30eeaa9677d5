"""Tests of nodes.__main__: how a logging node ends."""

import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from common import config, ids
from common.errors import PeerError, RefusedError
from common.protocol.messages import Append, Appended, Code, Entry, Failure, Lookup, LookupResult, Ping, State, Status
from common.rpc.pooled import PooledTransport
from common.rpc.transport import ask
from registry.directory import Directory
from registry.in_sync import FIRST_RENEWALS_S
from scripts.launcher.ports import write_config
from scripts.launcher.processes import ROOT
from tests.support.servers import serving
from tests.support.waiting import eventually


@dataclass
class Node:
    """A logging node on the embedded engine as a process, and how it is asked."""

    address: str
    registry: str
    journal: Path
    process: "subprocess.Popen[str]"
    transport: PooledTransport

    def append(self, text: str) -> object:
        """Its reply to a message."""
        return self.transport.call(self.address, Append(entries=(Entry(ids.new_id(), text),)), timeout_s=2.0)

    def listed(self) -> tuple[str, ...]:
        """Whom the registry hands out."""
        return ask(self.transport, self.registry, Lookup(name="logging-service"), LookupResult, timeout_s=2.0).values

    def is_ready(self) -> bool:
        """Whether it serves."""
        try:
            return State.READY is ask(self.transport, self.address, Ping(), Status, timeout_s=0.5).state
        except PeerError:
            return False

    def ended(self) -> tuple[int, str]:
        """The exit code and the last line on standard error."""
        _, errors = self.process.communicate(timeout=20.0)
        return self.process.returncode, errors.splitlines()[-1]


@contextmanager
def served_registry(path: Path) -> Iterator[str]:
    """A registry whose start is over, at the address in the configuration."""
    now_s = [0.0]
    directory = Directory({}, {}, clock=lambda: now_s[0])
    now_s[0] = FIRST_RENEWALS_S + 0.1
    with serving(directory.handle, address=config.load(path).registry.addresses[0]) as address:
        yield address


@pytest.fixture
def node(tmp_path: Path, transport: PooledTransport) -> Iterator[Node]:
    """A node that is ready, alone in its cluster."""
    path = tmp_path / "config.toml"
    write_config(path, nodes=1)
    (address,) = config.load(path).service_ips.logging_service
    port = address.partition(":")[2]
    command = [sys.executable, "-m", "nodes", "logging", "--port", port, "--engine", "embedded", "--config", str(path)]
    with (
        served_registry(path) as registry,
        subprocess.Popen(command, cwd=ROOT, stderr=subprocess.PIPE, text=True) as process,
    ):
        made = Node(address, registry, tmp_path / "data" / f"journal-{port}.sqlite", process, transport)
        try:
            assert eventually(made.is_ready)
            assert isinstance(made.append("first"), Appended)
            yield made
        finally:
            process.kill()


def test_a_node_that_is_told_to_stop_gives_its_place_up(node: Node) -> None:
    """It ends with 0, and the registry hands it out no more, without waiting for its lease to lapse."""
    assert (node.address,) == node.listed()
    node.process.send_signal(signal.SIGTERM)
    assert 0 == node.ended()[0]
    with pytest.raises(RefusedError, match="asks who is in sync"):  # nobody is left whom it could know it from
        node.listed()


def test_a_node_whose_journal_is_gone_ends_and_says_why(node: Node) -> None:
    """The operating system would write on into a file that nobody can open again: nothing is acknowledged."""
    for file in node.journal.parent.glob(f"{node.journal.name}*"):
        file.unlink()
    reply = node.append("second")
    assert isinstance(reply, Failure)
    assert Code.FAILED is reply.code
    code, last_words = node.ended()
    reason = f"nodes: the journal cannot be used any more: {node.journal}: the file is gone"
    assert (1, reason) == (code, last_words[: len(reason)])
