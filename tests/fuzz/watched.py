"""Checks a cluster after fuzzing: its processes have not grown, it still serves, and no log has a traceback."""

import http.client
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import psutil

from common import hostport
from scripts.launcher.cluster import Cluster
from tests.fuzz.outcome import Outcome
from tests.support.waiting import eventually

HEALTHY_S = 30.0  # within which the cluster must serve again; a lease of a fuzzed address expires after 3 s
WAIT_S = 15.0  # time-out of one request
GROWN_MB, GROWN_DESCRIPTORS, GROWN_THREADS = 100.0, 200, 20  # more growth counts as a leak, which is a finding


@dataclass(frozen=True, slots=True)
class Held:
    """The resources that a process holds."""

    pid: int
    rss_mb: float
    descriptors: int
    threads: int


def held(cluster: Cluster) -> dict[str, Held]:
    """The resources of all running processes, by the name of the part."""
    return {status.part.name: _held(status.pid) for status in cluster.status() if status.pid}


def _held(pid: int) -> Held:
    process = psutil.Process(pid)
    with process.oneshot():
        return Held(pid, round(process.memory_info().rss / 1e6, 1), process.num_fds(), process.num_threads())


def compared(before: Mapping[str, Held], after: Mapping[str, Held]) -> dict[str, Any]:
    """The resources of each process before and after, for the report; None if it has ended."""
    return {
        name: {"before": asdict(one), "after": asdict(after[name]) if name in after else None}
        for name, one in before.items()
    }


def look(cluster: Cluster, before: Mapping[str, Held]) -> Outcome:
    """Check that the cluster stores messages, runs the same processes without growth, and logged no traceback."""
    outcome = Outcome("the cluster afterwards", 0)
    try:
        eventually(lambda: _serves(cluster.settings.facade.address), timeout_s=HEALTHY_S)
    except AssertionError:
        outcome.found(f"the cluster did not store a message within {HEALTHY_S} s", b"")
    after = held(cluster)
    for name, one in before.items():
        if name not in after or after[name].pid != one.pid:
            outcome.found(f"{name} has died: {cluster.last_line(name)}", b"")
        elif grown(one, after[name]):
            outcome.found(f"{name} has grown: {one} before, {after[name]} now", b"")
    for path in sorted((cluster.folder / "logs").glob("*.log")):
        _, found, after_it = path.read_bytes().partition(b"Traceback")
        if found:
            outcome.found(f"a traceback in {path.name}", found + after_it)
    return outcome.done()


def grown(before: Held, after: Held) -> bool:
    """True if a process has grown by more than normal work explains."""
    return (
        after.rss_mb > before.rss_mb + GROWN_MB
        or after.descriptors > before.descriptors + GROWN_DESCRIPTORS
        or after.threads > before.threads + GROWN_THREADS
    )


def _serves(address: str) -> bool:
    """True if the facade is ready and stores a message."""
    connection = http.client.HTTPConnection(*hostport.split(address), timeout=WAIT_S)
    try:
        connection.request("GET", "/readyz")
        ready = connection.getresponse()
        ready.read()
        connection.request("POST", "/v1/messages", json.dumps({"msg": "x"}), {"Content-Type": "application/json"})
        return (http.HTTPStatus.OK, http.HTTPStatus.CREATED) == (ready.status, connection.getresponse().status)
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()
