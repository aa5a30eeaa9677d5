"""Tests of registry.__main__."""

from pathlib import Path

from common.protocol.messages import Lookup, LookupResult, State
from common.rpc.pooled import PooledTransport
from common.rpc.transport import ask
from scripts.launcher.ports import free_addresses, write_config
from tests.support.processes import run_program, started, wait_for


def test_wrong_options_are_named_in_the_error(tmp_path: Path) -> None:
    """A service that does not exist, and a port out of range, are named."""
    write_config(tmp_path / "config.toml")
    file = ("--config", str(tmp_path / "config.toml"))
    unknown = run_program("registry", "--service-ips", "loging-service 127.0.0.1:5002", *file)
    impossible = run_program("registry", "--port", "70000", *file)

    assert (1, 2) == (unknown.returncode, impossible.returncode)
    assert "unknown service 'loging-service'; did you mean 'logging-service'?" in unknown.stderr
    assert "70000 is not in the range 1<=x<=65535" in impossible.stderr


def test_the_registry_answers_from_its_options(tmp_path: Path, transport: PooledTransport) -> None:
    """--port and --service-ips replace what config.toml says."""
    write_config(tmp_path / "config.toml")
    (address,) = free_addresses(1)
    port, ips = address.partition(":")[2], "logging-service 127.0.0.1:7002,logging-service 127.0.0.1:7003"
    with started("registry", "--port", port, "--service-ips", ips, "--config", str(tmp_path / "config.toml")):
        wait_for(transport, address, State.READY)
        known = ask(transport, address, Lookup(name="configured-logging-service"), LookupResult, timeout_s=1.0)

    assert ("127.0.0.1:7002", "127.0.0.1:7003") == known.values
