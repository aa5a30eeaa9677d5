"""Tests of scripts.launcher.ping, which containers run as their probes."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from common.config import load
from common.errors import FatalError
from common.protocol.codec import Reply, Request
from common.protocol.messages import State, Status
from common.rpc.handler import Handler
from common.security.keyring import Keyring
from scripts import keys
from scripts.launcher import ping
from scripts.launcher.ports import write_config
from tests.support.servers import hello, respond, serving, serving_http


@pytest.fixture
def config(tmp_path: Path) -> Path:
    """The configuration of a cluster that is down."""
    write_config(tmp_path / "config.toml")
    return tmp_path / "config.toml"


def run(config: Path, *arguments: str) -> tuple[int, str]:
    """The exit code, and the output or the sentence of an error."""
    result = CliRunner().invoke(ping.main, [*arguments, "--config", str(config)])
    return (1, str(result.exception)) if isinstance(result.exception, FatalError) else (result.exit_code, result.output)


def in_state(state: State) -> Handler:
    """A handler that answers every request with a state."""

    async def handle(_request: Request) -> Reply:
        return Status(service="test", state=state)

    return handle


def test_a_ready_process_is_ready(config: Path) -> None:
    """The exit code is 0, and nothing is printed."""
    with serving(in_state(State.READY)) as address:
        assert (0, "") == run(config, address)


def test_the_address_may_be_in_the_environment(config: Path) -> None:
    """Probes of Kubernetes cannot name the address of their own pod in a command."""
    with serving(in_state(State.READY)) as address:
        environ = {"THREEFOLD_ADDRESS": address, "THREEFOLD_CONFIG": str(config)}
        assert 0 == CliRunner().invoke(ping.main, env=environ).exit_code


def test_a_joining_process_is_alive_and_not_ready(config: Path) -> None:
    """Readiness waits until the node has caught up; a node that catches up must not be restarted."""
    with serving(in_state(State.JOINING)) as address:
        assert (1, f"{address} is not ready: it is joining") == run(config, address)
        assert (0, "") == run(config, address, "--alive")


def test_a_process_that_is_down_is_neither(config: Path) -> None:
    """The sentence names the address."""
    address = load(config).registry.addresses[0]
    code, sentence = run(config, address, "--alive")

    assert (1, True) == (code, sentence.startswith(f"{address} does not answer: ")), sentence


def test_the_own_key_is_enough(config: Path) -> None:
    """A container has the secret key of its own process only, and the process answers to it."""
    address = load(config).registry.addresses[0]
    folder = config.parent / "keys"
    keys.write_pair(folder, address)
    config.write_text(config.read_text() + '[security]\nkeys = "keys"\n')
    with serving(in_state(State.READY), address=address, keyring=Keyring(folder, address)):
        assert (0, "") == run(config, address)


def test_what_is_no_address_is_named(config: Path) -> None:
    """An address has a port."""
    assert (1, "registry is not an address: use host:port") == run(config, "registry")


def at_facade(config: Path, address: str) -> None:
    """Let the configuration name the facade's address."""
    config.write_text(config.read_text().replace(load(config).facade.address, address))


def test_the_facade_is_asked_over_http(config: Path) -> None:
    """Without an address, or with that of the facade; one that listens everywhere is asked at loopback."""
    with serving_http(hello) as server:
        at_facade(config, server.address)
        assert (0, "") == run(config)
        assert (0, "") == run(config, server.address, "--alive")
        at_facade(config, f"0.0.0.0:{server.address.partition(':')[2]}")
        assert (0, "") == run(config)


def test_a_facade_that_is_not_ready_says_its_status(config: Path) -> None:
    """It may be alive all the same."""

    def application(environ: dict[str, Any], start_response: Callable[..., Any]) -> list[bytes]:
        status = "200 OK" if environ["PATH_INFO"] == "/livez" else "503 Service Unavailable"
        return respond(start_response, status, b"")

    with serving_http(application) as server:
        at_facade(config, server.address)
        assert (1, f"the facade at {server.address} answers 503 for /readyz") == run(config)
        assert (0, "") == run(config, "--alive")


def test_a_facade_that_is_down_is_not_alive(config: Path) -> None:
    """The sentence names its address."""
    code, sentence = run(config, "--alive")

    assert (1, True) == (code, "does not answer: " in sentence), sentence
