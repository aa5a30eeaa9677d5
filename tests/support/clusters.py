"""Whole clusters of processes, and messages in them."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import psutil

from common import config, ids
from common.errors import PeerError
from common.protocol.content import Entry
from common.protocol.messages import Append, Appended
from common.rpc.pooled import PooledTransport
from common.rpc.transport import ask
from scripts import keys
from scripts.launcher.cluster import Cluster
from scripts.launcher.ports import write_config
from scripts.launcher.processes import gone

FILL_TRIES = 30  # of one message, at all nodes in turn
FILL_THREADS = 32


def quiet(_line: str) -> None:
    """Ignore a progress line."""


@contextmanager
def running_cluster(
    folder: Path, *, engine: str, keyed: bool = False, everywhere: bool = False, more: str = "", **kwargs: Any
) -> Iterator[Cluster]:
    """A whole cluster on free ports; at the end of the block all of its processes must be gone.

    Args:
        folder: where its configuration and its data are.
        engine: "hazelcast" or "embedded".
        keyed: True if its processes have keys.
        everywhere: True if its facade listens at all addresses.
        more: lines that are added to its configuration.
        kwargs: options of Cluster.
    """
    write_config(folder / "config.toml", more=f'[security]\nkeys = "keys"\n{more}' if keyed else more)
    if everywhere:
        path = folder / "config.toml"
        path.write_text(path.read_text().replace('[facade]\naddress = "127.0.0.1:', '[facade]\naddress = "0.0.0.0:'))
    if keyed:
        for name in keys.all_names(config.load(folder / "config.toml")):
            keys.write_pair(folder / "keys", name)
    cluster = Cluster(folder / "config.toml", engine=engine, **kwargs)
    try:
        cluster.up(quiet)
        yield cluster
    finally:
        tree = [process for status in cluster.status() if status.pid for process in _tree(status.pid)]
        cluster.down()
        cluster.close()
        assert [] == [process for process in tree if alive(process)]


def restore(cluster: Cluster) -> None:
    """Start the parts of a cluster that do not run."""
    if any(status.pid is None for status in cluster.status()):
        cluster.up(quiet)


def fill(cluster: Cluster, texts: list[str]) -> None:
    """Store texts in their order, with many requests at once, directly at the logging nodes."""
    transport = PooledTransport()
    nodes = cluster.settings.service_ips.logging_service
    requests = [Append(entries=(Entry(ids.new_id(), text),)) for text in texts]

    def append(number: int) -> Appended:
        for attempt in range(FILL_TRIES - 1):  # a busy node may be fenced meanwhile; a repeated id is harmless
            with suppress(PeerError):
                return ask(transport, nodes[(number + attempt) % len(nodes)], requests[number], Appended, timeout_s=5)
        return ask(transport, nodes[number % len(nodes)], requests[number], Appended, timeout_s=10.0)

    with ThreadPoolExecutor(FILL_THREADS) as threads:
        assert len(texts) == sum(1 for _ in threads.map(append, range(len(texts))))
    transport.close()


def alive(process: psutil.Process) -> bool:
    """True if the process runs; a zombie does not."""
    return not gone(process)


def _tree(pid: int) -> list[psutil.Process]:
    try:
        process = psutil.Process(pid)
        return [process, *process.children(recursive=True)]
    except psutil.NoSuchProcess:
        return []
