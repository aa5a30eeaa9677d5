"""What every process that Prometheus scrapes tells of itself."""

import prometheus_client
from prometheus_client import CollectorRegistry


def new_registry() -> CollectorRegistry:
    """A registry with the figures of this process: CPU time, memory, descriptors, and the version of Python."""
    # When each series was made would be a series more for each that there is.
    prometheus_client.disable_created_metrics()  # type: ignore[no-untyped-call]
    registry = CollectorRegistry()
    for kind in (prometheus_client.ProcessCollector, prometheus_client.PlatformCollector):
        kind(registry=registry)
    return registry
