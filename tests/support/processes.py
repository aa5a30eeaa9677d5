"""Programs of the project as processes, started by a test."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager

from common.errors import PeerError
from common.protocol.messages import Ping, State, Status
from common.rpc.pooled import PooledTransport
from common.rpc.transport import ask
from scripts.launcher.cluster import Cluster
from scripts.launcher.processes import ROOT
from tests.support.waiting import eventually

LONGEST_RUN_S = 120


def run_program(
    *arguments: str,
    stdin: str | None = None,
    timeout_s: float = LONGEST_RUN_S,
    **environ: str,
) -> subprocess.CompletedProcess[str]:
    """Run `python -m …` until it ends by itself.

    Args:
        arguments: the module and its arguments.
        stdin: its standard input.
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
        env=os.environ | environ,
        check=False,
    )


def run_on_cluster(
    cluster: Cluster, program: str, *arguments: str, stdin: str | None = None
) -> subprocess.CompletedProcess[str]:
    """Run a program of an operator on a cluster."""
    return run_program(program, "--config", str(cluster.path), *arguments, stdin=stdin, COLUMNS="140")


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
