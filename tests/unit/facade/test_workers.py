"""Tests of facade.workers: processes that share a listening socket."""

import subprocess
import sys
from pathlib import Path

import pytest

from common.errors import FatalError
from common.hostport import split
from facade import workers
from scripts.launcher.ports import free_addresses
from scripts.launcher.processes import ROOT


def test_a_worker_that_fails_is_logged_and_restarted(tmp_path: Path) -> None:
    """A worker that ends with status 1 is started again after a while, until the facade is stopped."""
    script = tmp_path / "broken.py"
    script.write_text(
        "from common.telemetry import logs\nfrom facade import workers\nlogs.configure('test')\n"
        "def work():\n    print('worker', flush=True)\n    raise ZeroDivisionError('oops')\n"
        "workers.run(1, work)\n"
    )
    with subprocess.Popen(
        [sys.executable, str(script)],
        cwd=ROOT,
        env={"PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as started:
        assert started.stdout
        assert ["worker\n", "worker\n"] == [started.stdout.readline() for _ in range(2)]
        started.terminate()
        _, errors = started.communicate(timeout=10.0)
    assert 0 == started.returncode
    assert "a worker ended" in errors
    assert '"status":1' in errors


def test_a_taken_port_is_an_error_of_one_sentence() -> None:
    """A second facade at an address cannot start."""
    (address,) = free_addresses(1)
    with workers.listen(*split(address)) as listening:
        listening.listen()
        with pytest.raises(FatalError, match=f"cannot listen at {address}: the port is taken"):
            workers.listen(*split(address))


def test_an_address_of_another_machine_is_an_error_of_one_sentence() -> None:
    """The error has the reason that the system gives."""
    with pytest.raises(FatalError, match=r"cannot listen at 192\.0\.2\.1:5000: "):
        workers.listen("192.0.2.1", 5_000)
