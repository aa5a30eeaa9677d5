"""`python -m scripts.launcher.ping [ADDRESS]`: asks one process whether it is ready, as the probes of containers do."""

import http.client
import os
from contextlib import closing
from pathlib import Path

import click

from common import config, hostport, process
from common.errors import FatalError, PeerError
from common.protocol.messages import Ping, State, Status
from common.rpc.pooled import PooledTransport
from common.rpc.transport import ask
from common.settings.environment import ADDRESS
from common.settings.option import config_option

ANSWER_S = 2.0  # timeout of the question; with 0.5 s for the start of Python, below the 5 s that the examples allow


@click.command()
@click.argument("address", required=False, envvar=ADDRESS)
@click.option("--alive", is_flag=True, help="Any answer is enough, also that of a process which is not ready.")
@config_option
def main(address: str | None, alive: bool, path: Path) -> None:
    """Ask the process at ADDRESS (host:port) whether it is ready. Exit with 1 if it is not.

    The default is in the environment variable THREEFOLD_ADDRESS, else the facade.

    With `[security] keys` this uses the key of the process itself, so it must run beside it.
    """
    settings = config.load(path, os.environ)
    if address in (None, settings.facade.address):
        ask_facade(settings.facade.address, "/livez" if alive else "/readyz")
    else:
        _ask_server(settings, path.parent, str(address), alive=alive)


def ask_facade(address: str, resource: str) -> None:
    """Ask the facade at host:port for `/livez` or `/readyz`; one that listens everywhere is asked at loopback.

    Raises:
        FatalError: it does not answer within ANSWER_S, or not with 200.
    """
    host, port = hostport.split(address)
    if host in hostport.EVERYWHERE:
        host = "::1" if ":" in host else "127.0.0.1"
    with closing(http.client.HTTPConnection(host, port, timeout=ANSWER_S)) as connection:
        try:
            connection.request("HEAD", resource)
            status = connection.getresponse().status
        except (OSError, http.client.HTTPException) as error:
            raise FatalError(f"the facade at {address} does not answer: {error}") from error
    if status != http.HTTPStatus.OK:
        raise FatalError(f"the facade at {address} answers {status} for {resource}")


def _ask_server(settings: config.Config, folder: Path, address: str, *, alive: bool) -> None:
    """Raise FatalError unless the registry or node at host:port is ready, or, for `alive`, answers at all."""
    if not hostport.ADDRESS.fullmatch(address):
        raise FatalError(f"{address[:80]} is not an address: use host:port")
    with closing(PooledTransport(process.keyring_of(settings, folder, address))) as transport:
        try:
            status = ask(transport, address, Ping(), Status, timeout_s=ANSWER_S)
        except PeerError as error:
            raise FatalError(f"{address} does not answer: {error}") from error
    if not alive and status.state != State.READY:
        raise FatalError(f"{address} is not ready: it is {status.state}")


if __name__ == "__main__":
    process.entry("ping", main)()
