"""Tests of common.telemetry.metrics."""

import prometheus_client
from prometheus_client import Counter

from common.telemetry.metrics import new_registry
from tests.support.servers import metric_values


def test_a_registry_has_the_figures_of_this_process() -> None:
    """CPU time, memory and descriptors, and the version of Python."""
    found = metric_values(prometheus_client.generate_latest(new_registry()).decode())

    assert found["process_cpu_seconds_total"] > 0.0
    assert found["process_resident_memory_bytes"] > 1e6
    assert found["process_open_fds"] >= 3.0
    assert [1.0] == [value for name, value in found.items() if name.startswith("python_info{")]


def test_a_counter_is_one_series() -> None:
    """It has no time of creation, which would be one more series for each counter."""
    registry = new_registry()
    Counter("requests", "Requests", registry=registry).inc()
    found = metric_values(prometheus_client.generate_latest(registry).decode())

    assert ["requests_total"] == [name for name in found if name.startswith("requests")]


def test_registries_are_independent() -> None:
    """Two objects of one process may use the same name, each in its own registry."""
    first, second = new_registry(), new_registry()
    for registry, requests in ((first, 1), (second, 2)):
        Counter("requests", "Requests", registry=registry).inc(requests)

    assert [1.0, 2.0] == [registry.get_sample_value("requests_total") for registry in (first, second)]
