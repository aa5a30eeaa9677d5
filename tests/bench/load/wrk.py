"""Puts load on a cluster with wrk (Debian's package), and measures the CPU time of the cluster."""

import statistics
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import psutil

from scripts.launcher.cluster import Cluster
from scripts.launcher.ports import free_addresses
from scripts.launcher.processes import ROOT


def processes_of(cluster: Cluster) -> dict[str, list[psutil.Process]]:
    """The running processes of a cluster by kind: "facade", "logging", …, and "members" for Hazelcast."""
    parts: dict[str, list[psutil.Process]] = {}
    for status in cluster.status():
        process = psutil.Process(status.pid)
        parts.setdefault(status.part.name.partition("-")[0], []).append(process)
        parts.setdefault("members", []).extend(process.children())
    return parts


def with_cpu(
    parts: dict[str, list[psutil.Process]], run: Callable[[], dict[str, float]]
) -> tuple[dict[str, float], dict[str, float]]:
    """The figures that `run` returns, and the CPU time of each part in milliseconds per request."""
    before = {name: cpu_s(processes) for name, processes in parts.items()}
    result = run()
    return result, {name: 1e3 * (cpu_s(parts[name]) - before[name]) / result["requests"] for name in parts}


def cpu_s(processes: Sequence[psutil.Process]) -> float:
    """The CPU time that processes have used so far, in seconds."""
    return float(sum(sum(process.cpu_times()[:2]) for process in processes))


def wrk(address: str, connections: int, seconds: int, *wanted: str) -> dict[str, float]:
    """Run wrk with load.lua for some seconds.

    Args:
        address: host:port of the server.
        connections: how many.
        seconds: how long.
        wanted: arguments of load.lua; "post" by default.

    Returns:
        Number of requests, rate a second, number of errors, and latency quantiles p50, p99 and p99.9 in milliseconds.
    """
    command = ["wrk", "-t1", f"-c{connections}", f"-d{seconds}s", "-s", str(Path(__file__).with_name("load.lua"))]
    ended = subprocess.run(
        [*command, f"http://{address}", "--", *(wanted or ("post",))], capture_output=True, text=True, check=True
    )
    (line,) = [line for line in ended.stdout.splitlines() if line.startswith("RESULT")]
    requests, duration_us, *others = map(float, line.split()[1:])
    names = ("errors", "p50", "p99", "p99.9")
    return {"requests": requests, "rate": requests / duration_us * 1e6, **dict(zip(names, others, strict=True))}


@contextmanager
def echo() -> Iterator[tuple[psutil.Process, str]]:
    """Run the bare echo server while the block runs: its process and its host:port."""
    (address,) = free_addresses(1)
    command = [sys.executable, "-m", "tests.bench.load.echo", address.rpartition(":")[2]]
    with subprocess.Popen(command, cwd=ROOT, stderr=subprocess.DEVNULL) as process:
        try:
            yield psutil.Process(process.pid), address
        finally:
            process.terminate()


def medians(taken: list[dict[str, float]]) -> dict[str, float]:
    """The median of each figure over several rounds."""
    return {name: statistics.median(one[name] for one in taken) for name in taken[0]}
