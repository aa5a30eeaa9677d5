"""Tests of the programs: what they say when they cannot start, and that they stop when told."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from common.protocol.messages import Describe, Description, Lookup, LookupResult, State
from common.rpc.pooled import PooledTransport
from common.rpc.transport import ask
from scripts.launcher import processes
from scripts.launcher.ports import free_addresses, write_config
from scripts.launcher.processes import ROOT
from tests.support.processes import started, wait_for
from tests.support.servers import handle, serving


def run(*arguments: str, **environ: str) -> subprocess.CompletedProcess[str]:
    """`python -m …`, which must end by itself."""
    return subprocess.run(
        [sys.executable, "-m", *arguments],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=60,
        env=os.environ | environ,
        check=False,
    )


@pytest.mark.parametrize(
    "program", [("registry",), ("nodes", "messages", "--port", "1"), ("nodes", "logging", "--port", "1"), ("facade",)]
)
def test_no_configuration_is_one_sentence(program: tuple[str, ...], tmp_path: Path) -> None:
    """Without config.toml every program says so, exits with 1, and shows no traceback."""
    ended = run(*program, "--config", str(tmp_path / "none.toml"))

    name = program[0]
    expected = f"{name}: cannot read the configuration {tmp_path / 'none.toml'}: No such file or directory\n"
    assert (1, expected) == (ended.returncode, ended.stderr)


def test_a_broken_configuration_is_one_sentence(tmp_path: Path) -> None:
    """A key that is not known is named, with the one that was meant."""
    (tmp_path / "config.toml").write_text("[servce_ips]\n")
    ended = run("facade", "--config", str(tmp_path / "config.toml"))

    assert 1 == ended.returncode
    assert f"facade: {tmp_path}/config.toml: unknown table 'servce_ips'; did you mean 'service_ips'?\n" == ended.stderr


def test_a_taken_port_is_one_sentence(tmp_path: Path) -> None:
    """Each kind of server names the address and what is wrong with it."""
    write_config(tmp_path / "config.toml")
    file = ("--config", str(tmp_path / "config.toml"))
    with serving(handle) as address:
        port = address.partition(":")[2]
        for program in (("registry",), ("nodes", "messages"), ("nodes", "logging"), ("facade",)):
            ended = run(*program, "--port", port, *file)
            assert 1 == ended.returncode
            assert f"{program[0]}: cannot listen at {address}: the port is taken" == ended.stderr.splitlines()[-1]
            assert "Traceback" not in ended.stderr


def test_wrong_options_are_told(tmp_path: Path) -> None:
    """A service that does not exist, and a port that cannot be, are named."""
    write_config(tmp_path / "config.toml")
    file = ("--config", str(tmp_path / "config.toml"))
    unknown = run("registry", "--service-ips", "loging-service 127.0.0.1:5002", *file)
    impossible = run("registry", "--port", "70000", *file)

    assert (1, 2) == (unknown.returncode, impossible.returncode)
    assert "unknown service 'loging-service'; did you mean 'logging-service'?" in unknown.stderr
    assert "70000 is not in the range 1<=x<=65535" in impossible.stderr


def test_a_node_is_not_handed_out_under_an_address_that_means_all(tmp_path: Path) -> None:
    """0.0.0.0 can be bound, but nobody else can send to it."""
    write_config(tmp_path / "config.toml")
    ended = run("nodes", "messages", "--host", "0.0.0.0", "--port", "7001", "--config", str(tmp_path / "config.toml"))

    expected = "nodes: --host 0.0.0.0 is no address at which others reach this node: give the one that they use\n"
    assert (1, expected) == (ended.returncode, ended.stderr)


def test_the_registry_answers_from_its_options(tmp_path: Path, transport: PooledTransport) -> None:
    """--port and --service-ips replace what config.toml says."""
    write_config(tmp_path / "config.toml")
    (address,) = free_addresses(1)
    port, ips = address.partition(":")[2], "logging-service 127.0.0.1:7002,logging-service 127.0.0.1:7003"
    with started("registry", "--port", port, "--service-ips", ips, "--config", str(tmp_path / "config.toml")):
        wait_for(transport, address, State.READY)
        known = ask(transport, address, Lookup(name="configured-logging-service"), LookupResult, timeout_s=1.0)

    assert ("127.0.0.1:7002", "127.0.0.1:7003") == known.values


def test_the_messages_node_answers(tmp_path: Path, transport: PooledTransport) -> None:
    """`python -m nodes messages` serves its static text."""
    write_config(tmp_path / "config.toml")
    (address,) = free_addresses(1)
    port = address.partition(":")[2]
    with started("nodes", "messages", "--port", port, "--config", str(tmp_path / "config.toml")):
        wait_for(transport, address, State.READY)
        text = ask(transport, address, Describe(), Description, timeout_s=1.0).text

    assert "not implemented yet" == text


def test_a_logging_node_without_a_registry_says_so(tmp_path: Path) -> None:
    """A node that cannot learn its cluster ends with a sentence, not with a traceback."""
    write_config(tmp_path / "config.toml")
    (address,) = free_addresses(1)
    ended = run("nodes", "logging", "--port", address.partition(":")[2], "--config", str(tmp_path / "config.toml"))

    assert 1 == ended.returncode
    assert "nodes: no registry answers: 127.0.0.1:" in ended.stderr
    assert "Traceback" not in ended.stderr


def test_a_logging_node_that_nobody_configured_says_so(tmp_path: Path, transport: PooledTransport) -> None:
    """A node whose address the registry does not know has no member, and names those that are known."""
    write_config(tmp_path / "config.toml")
    file = ("--config", str(tmp_path / "config.toml"))
    registry, address = free_addresses(2)
    text = (tmp_path / "config.toml").read_text()
    (tmp_path / "config.toml").write_text(
        text.replace("[registry]\naddresses = ", f'[registry]\naddresses = ["{registry}"] #')
    )
    with started("registry", *file):
        wait_for(transport, registry, State.READY)
        ended = run("nodes", "logging", "--port", address.partition(":")[2], *file)

    assert 1 == ended.returncode
    assert f"knows no logging node {address} with a member; known: 127.0.0.1:" in ended.stderr


def test_no_java_is_one_sentence_and_the_demo_says_what_it_does_instead(tmp_path: Path) -> None:
    """Without a jar a node names the ways out; the demo falls back to the embedded engine, and says so."""
    missing = str(tmp_path / "none.jar")
    write_config(tmp_path / "config.toml")
    up = run("scripts.cluster", "--config", str(tmp_path / "config.toml"), "up", HAZELCAST_JAR=missing)
    demo = run("scripts.demo", HAZELCAST_JAR=missing)

    assert (1, f"cluster: HAZELCAST_JAR names {missing}, which is not a file\n") == (up.returncode, up.stderr)
    assert 0 == demo.returncode, demo.stdout + demo.stderr
    assert "using the embedded engine instead" in demo.stdout
    assert "0 lost" in demo.stdout


def test_a_process_has_ended_when_its_last_thread_has() -> None:
    """Its first one is a zombie before that; who waited for it then, in vain, left it behind."""
    program = "import threading\nfor _ in range(200): threading.Thread(target=input).start()\nprint()"
    for _ in range(6):
        with subprocess.Popen([sys.executable, "-c", program], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as child:
            assert child.stdout
            child.stdout.readline()
            child.kill()
            found = psutil.Process(child.pid)
            while not processes.gone(found):
                pass
            assert -signal.SIGKILL == child.poll()
