"""Tests of nodes.__main__: how nodes start and end."""

import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from common import config, ids
from common.errors import PeerError, RefusedError
from common.protocol.content import Entry
from common.protocol.messages import (
    Append,
    Appended,
    Code,
    Describe,
    Description,
    Failure,
    Lookup,
    LookupResult,
    Ping,
    State,
    Status,
)
from common.rpc.pooled import PooledTransport
from common.rpc.transport import ask
from scripts.launcher.ports import free_addresses, write_config
from scripts.launcher.processes import ROOT
from tests.support.nodes.replicas import serving_registry
from tests.support.processes import run_program, started, wait_for
from tests.support.waiting import eventually


@dataclass
class NodeProcess:
    """A process of a logging node on the embedded engine, and requests to it."""

    address: str
    registry: str
    journal: Path
    process: "subprocess.Popen[str]"
    transport: PooledTransport

    def append(self, text: str) -> object:
        """Its reply to the append of a message."""
        return self.transport.call(self.address, Append(entries=(Entry(ids.new_id(), text),)), timeout_s=10.0)

    def listed(self) -> tuple[str, ...]:
        """The logging nodes that the registry lists."""
        return ask(self.transport, self.registry, Lookup(name="logging-service"), LookupResult, timeout_s=10.0).values

    def is_ready(self) -> bool:
        """True if the node is ready."""
        try:
            return State.READY is ask(self.transport, self.address, Ping(), Status, timeout_s=0.5).state
        except PeerError:
            return False

    def ended(self) -> tuple[int, str]:
        """The exit code, and the last line on standard error."""
        _, errors = self.process.communicate(timeout=20.0)
        return self.process.returncode, errors.splitlines()[-1]


@pytest.fixture
def node(tmp_path: Path, transport: PooledTransport) -> Iterator[NodeProcess]:
    """A node that is ready, and the only one of its cluster."""
    path = tmp_path / "config.toml"
    write_config(path, nodes=1)
    (address,) = config.load(path).service_ips.logging_service
    port = address.partition(":")[2]
    command = [sys.executable, "-m", "nodes", "logging", "--port", port, "--engine", "embedded", "--config", str(path)]
    with (
        serving_registry(address=config.load(path).registry.addresses[0]) as registry,
        subprocess.Popen(command, cwd=ROOT, stderr=subprocess.PIPE, text=True) as process,
    ):
        made = NodeProcess(address, registry, tmp_path / "data" / f"journal-{port}.sqlite", process, transport)
        try:
            assert eventually(made.is_ready)
            assert isinstance(made.append("first"), Appended)
            yield made
        finally:
            process.kill()


def test_a_node_leaves_the_set_when_it_is_stopped(node: NodeProcess) -> None:
    """After SIGTERM it exits with 0, and the registry no longer lists it although its lease has not lapsed."""
    assert (node.address,) == node.listed()
    node.process.send_signal(signal.SIGTERM)
    assert 0 == node.ended()[0]
    with pytest.raises(RefusedError, match="asks who is in sync"):  # no replica is left, so the registry starts again
        node.listed()


def test_a_node_whose_journal_was_removed_exits_with_the_reason(node: NodeProcess) -> None:
    """It acknowledges nothing, since what is written to a removed file is lost."""
    for file in node.journal.parent.glob(f"{node.journal.name}*"):
        file.unlink()
    reply = node.append("second")
    assert isinstance(reply, Failure)
    assert Code.FAILED is reply.code
    code, last_line = node.ended()
    reason = f"nodes: the journal cannot be used any more: {node.journal}: the file is gone"
    assert (1, reason) == (code, last_line[: len(reason)])


def test_a_node_refuses_to_register_a_wildcard_address(tmp_path: Path) -> None:
    """0.0.0.0 can be bound, but no other process can send to it."""
    write_config(tmp_path / "config.toml")
    ended = run_program(
        "nodes", "messages", "--host", "0.0.0.0", "--port", "7001", "--config", str(tmp_path / "config.toml")
    )

    expected = (
        "nodes: --host 0.0.0.0 is not an address at which other processes can connect: give the host that they use\n"
    )
    assert (1, expected) == (ended.returncode, ended.stderr)


def test_the_messages_node_answers(tmp_path: Path, transport: PooledTransport) -> None:
    """`python -m nodes messages` serves its static text."""
    write_config(tmp_path / "config.toml")
    (address,) = free_addresses(1)
    port = address.partition(":")[2]
    with started("nodes", "messages", "--port", port, "--config", str(tmp_path / "config.toml")):
        wait_for(transport, address, State.READY)
        text = ask(transport, address, Describe(), Description, timeout_s=10.0).text

    assert "not implemented yet" == text


def test_a_logging_node_without_a_registry_exits_with_the_reason(tmp_path: Path) -> None:
    """A node that cannot find its cluster exits with one sentence instead of a traceback."""
    write_config(tmp_path / "config.toml")
    (address,) = free_addresses(1)
    ended = run_program(
        "nodes", "logging", "--port", address.partition(":")[2], "--config", str(tmp_path / "config.toml")
    )

    assert 1 == ended.returncode
    assert "nodes: the registry does not answer for configured-logging-service: no registry answers (" in ended.stderr
    assert "Traceback" not in ended.stderr


def test_a_logging_node_outside_the_configuration_exits_with_the_reason(
    tmp_path: Path, transport: PooledTransport
) -> None:
    """A node that has no member names the configured logging nodes."""
    write_config(tmp_path / "config.toml")
    file = ("--config", str(tmp_path / "config.toml"))
    registry, address = free_addresses(2)
    text = (tmp_path / "config.toml").read_text()
    (tmp_path / "config.toml").write_text(
        text.replace("[registry]\naddresses = ", f'[registry]\naddresses = ["{registry}"] #')
    )
    with started("registry", *file):
        wait_for(transport, registry, State.READY)
        ended = run_program("nodes", "logging", "--port", address.partition(":")[2], *file)

    assert 1 == ended.returncode
    assert f"knows no logging node {address} with a member; known: 127.0.0.1:" in ended.stderr
