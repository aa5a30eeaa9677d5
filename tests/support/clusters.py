"""Whole clusters of processes, and messages in them."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import psutil

from common import config, ids
from common.errors import PeerError
from common.protocol.messages import Append, Appended, Entry
from common.rpc.pooled import PooledTransport
from common.rpc.transport import ask
from scripts import keys
from scripts.launcher.cluster import Cluster
from scripts.launcher.ports import write_config
from scripts.launcher.processes import gone

FILL_TRIES = 30  # of one message, at all nodes in turn
FILLERS = 32  # threads that store messages past the facade


@contextmanager
def running_cluster(
    folder: Path, *, engine: str, keyed: bool = False, everywhere: bool = False, more: str = "", **kwargs: Any
) -> Iterator[Cluster]:
    """A whole cluster on free ports, with its files in `folder`; every process of it is gone at the end.

    `keyed`: its processes have keys; `everywhere`: its facade listens at all addresses. `more` is what is added to its
    configuration.
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
        cluster.up(lambda _line: None)
        yield cluster
    finally:
        tree = [process for status in cluster.status() if status.pid for process in _tree(status.pid)]
        cluster.down()
        cluster.close()
        assert [] == [process for process in tree if alive(process)]


def fill(cluster: Cluster, texts: list[str]) -> None:
    """Store the texts in their order, past the facade, many at once."""
    transport = PooledTransport()
    nodes = cluster.settings.service_ips.logging_service
    requests = [Append(entries=(Entry(ids.new_id(), text),)) for text in texts]

    def append(number: int) -> Appended:
        for attempt in range(FILL_TRIES - 1):  # on a busy machine a node may be fenced meanwhile; ids make it safe
            with suppress(PeerError):
                return ask(transport, nodes[(number + attempt) % len(nodes)], requests[number], Appended, timeout_s=5)
        return ask(transport, nodes[number % len(nodes)], requests[number], Appended, timeout_s=10.0)

    with ThreadPoolExecutor(FILLERS) as threads:
        assert len(texts) == sum(1 for _ in threads.map(append, range(len(texts))))
    transport.close()


def alive(process: psutil.Process) -> bool:
    """Whether it runs; one that only waits to be reaped does not."""
    return not gone(process)


def _tree(pid: int) -> list[psutil.Process]:
    try:
        process = psutil.Process(pid)
        return [process, *process.children(recursive=True)]
    except psutil.NoSuchProcess:
        return []
