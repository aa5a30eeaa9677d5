"""`python -m registry`: runs a registry."""

import asyncio
import os
from pathlib import Path

import click
import structlog
import uvloop

from common import config, hostport, process
from common.errors import FatalError
from common.rpc.server import Server
from common.security import exposure, keyring
from common.settings.option import config_option
from registry.directory import Directory, parse_service_ips

log = structlog.get_logger()

OBSERVE_S = 0.25  # interval at which the in-sync directory checks its leases


@click.command()
@click.option(
    "--port", type=click.IntRange(1, 65_535), help="Port; default: that of the first of [registry] addresses."
)
@click.option("--host", help="Host to listen on; default: that of the first of [registry] addresses.")
@click.option("--service-ips", help='Addresses by service: "logging-service 127.0.0.1:5002,messages-service …".')
@config_option
def main(port: int | None, host: str | None, service_ips: str | None, path: Path) -> None:
    """Run a registry, with the addresses in config.toml or --service-ips."""
    settings = config.load(path, os.environ)
    if service_ips is not None:
        settings = config.with_service_ips(settings, parse_service_ips(service_ips))
    first_host, first_port = hostport.split(settings.registry.addresses[0])
    address = hostport.join(host or first_host, port or first_port)
    if settings.security.keys and hostport.split(address)[0] in hostport.EVERYWHERE:
        raise FatalError(
            f"{address} cannot have a key: with keys, a registry must listen at the address that clients use"
        )
    uvloop.run(_serve(address, settings, process.keyring_of(settings, path.parent, address)))


async def _serve(address: str, settings: config.Config, keys: keyring.Keyring | None) -> None:
    directory = Directory.from_config(settings, is_known=keys.has_key_of if keys else lambda _address: True)
    server = Server(address, directory.handle, keys)
    log.info("listening", address=address)
    for warning in exposure.of_server(address, keys=keys is not None):
        log.warning(warning)
    observing = asyncio.create_task(_observe(directory))
    await server.serve(process.stop_on_signal())
    observing.cancel()


async def _observe(directory: Directory) -> None:
    """Let the in-sync directory regularly check its leases, and detect that this process was suspended."""
    while True:
        await asyncio.sleep(OBSERVE_S)
        directory.replicas.observe()


if __name__ == "__main__":
    process.entry("registry", main, serves=True)()
