"""Single processes of a cluster, started by a test."""

import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager

from common.errors import PeerError
from common.protocol.messages import Ping, State, Status
from common.rpc.pooled import PooledTransport
from common.rpc.transport import ask
from scripts.launcher.processes import ROOT
from tests.support.waiting import eventually


@contextmanager
def started(*arguments: str) -> Iterator[subprocess.Popen[bytes]]:
    """`python -m …` in the background; ended with SIGTERM, to which it must answer with 0."""
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
    """The status of a server when it has reached a state."""

    def probe() -> Status | None:
        try:
            status = ask(transport, address, Ping(), Status, timeout_s=0.25)
        except PeerError:
            return None
        return status if status.state is state else None

    return eventually(probe)
