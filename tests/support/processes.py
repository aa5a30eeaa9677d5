"""Programs of the project as processes, started by a test."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from common.errors import PeerError
from common.protocol.messages import Ping, State, Status
from common.rpc.pooled import PooledTransport
from common.rpc.transport import ask
from scripts.launcher.processes import ROOT
from tests.support.waiting import eventually

LONGEST_RUN_S = 120


def environment_without_coverage() -> dict[str, str]:
    """The environment of a process, and of all that it starts, without the cost of measuring their coverage."""
    return {name: value for name, value in os.environ.items() if not name.startswith("COVERAGE_")}


def run_program(
    *arguments: str,
    stdin: str | None = None,
    measured: bool = True,
    timeout_s: float = LONGEST_RUN_S,
    **environ: str,
) -> subprocess.CompletedProcess[str]:
    """Run `python -m …` until it ends by itself.

    Args:
        arguments: the module and its arguments.
        stdin: its standard input.
        measured: whether its coverage is measured, if that of the tests is.
        timeout_s: after how many seconds it is killed, which fails the test.
        environ: variables that are added to the environment.
    """
    return subprocess.run(
        [sys.executable, "-m", *arguments],
        cwd=ROOT,
        input=stdin,
        capture_output=True,
        text=True,
        timeout=timeout_s,
        env=(dict(os.environ) if measured else environment_without_coverage()) | environ,
        check=False,
    )


def run_on_cluster(folder: Path, *arguments: str, stdin: str | None = None) -> subprocess.CompletedProcess[str]:
    """Run a program of an operator on the cluster whose configuration is in a folder."""
    return run_program(*arguments, stdin=stdin, THREEFOLD_CONFIG=str(folder / "config.toml"), COLUMNS="140")


@contextmanager
def started(*arguments: str) -> Iterator[subprocess.Popen[bytes]]:
    """Run `python -m …` in the background; SIGTERM ends it after the block, and its exit code must be 0."""
    with subprocess.Popen([sys.executable, "-m", *arguments], cwd=ROOT, stderr=subprocess.DEVNULL) as process:
        try:
            yield process
        finally:
            process.send_signal(signal.SIGTERM)
            try:
                assert 0 == process.wait(timeout=20)
            finally:
                process.kill()


def wait_for(transport: PooledTransport, address: str, state: State) -> Status:
    """Wait until a server is in a state; its status then."""

    def probe() -> Status | None:
        try:
            status = ask(transport, address, Ping(), Status, timeout_s=0.25)
        except PeerError:
            return None
        return status if status.state is state else None

    return eventually(probe)
