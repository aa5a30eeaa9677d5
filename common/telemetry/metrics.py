"""Prometheus metrics that every process has."""

import prometheus_client
from prometheus_client import CollectorRegistry


def new_registry() -> CollectorRegistry:
    """A metrics registry with the CPU time, memory, descriptors and Python version of this process."""
    # Creation times would add one more series for each counter.
    prometheus_client.disable_created_metrics()  # type: ignore[no-untyped-call]
    registry = CollectorRegistry()
    for kind in (prometheus_client.ProcessCollector, prometheus_client.PlatformCollector):
        kind(registry=registry)
    return registry
