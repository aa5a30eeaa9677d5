"""Tests of facade.status.metrics: what Prometheus scrapes from a facade."""

import pytest

from common import ids
from common.errors import KeyConflictError
from common.protocol.content import Entry
from tests.support.facade import NODES, OTHER_REGISTRY, REGISTRY, MemorySystem
from tests.support.servers import metric_values


def test_labels_are_bounded() -> None:
    """All unknown paths are one series, and so are all unknown methods."""
    http = MemorySystem().http()
    for method in ("PATCH", "DELETE"):
        http.simulate_request(method, "/facade")
    for path in ("/a", "/b/c", "/v1/messages/not-an-id", "/v1/messages/01a20c21-40b9-743e-8cff-65c316df4a96"):
        http.simulate_get(path)
    page = http.simulate_get("/metrics").text

    assert 'method="GET",route="none",status="404"} 2.0' in page
    assert 'method="other",route="/facade",status="405"} 2.0' in page
    assert 'route="/v1/messages/{message_id}",status="404"} 1.0' in page
    assert 'route="/v1/messages/{message_id}",status="400"} 1.0' in page


def test_failed_attempts_are_counted_by_node_and_reason() -> None:
    """An attempt at a dead node and a lookup without a registry are counted; a key conflict is no failure of a node."""
    system = MemorySystem()
    system.client.append(Entry(ids.new_id(), "a"))
    system.transport.kill(NODES[0])
    system.client.append(Entry(ids.new_id(), "b"))
    for registry in (REGISTRY, OTHER_REGISTRY):
        system.transport.kill(registry)
    system.client.append(Entry(ids.new_id(), "c"))
    system.client.append(Entry(ids.new_id(), "d", key="key"))
    with pytest.raises(KeyConflictError):
        system.client.append(Entry(ids.new_id(), "e", key="key"))
    found = metric_values(system.metrics.text().decode())

    assert 1.0 == found[f'threefold_node_failed_attempts_total{{node="{NODES[0]}",reason="unreachable"}}']
    assert (2.0, 3.0) == tuple(
        found[f'threefold_registry_lookups_total{{outcome="{outcome}"}}'] for outcome in ("answered", "stale")
    )
    assert not [series for series in found if "conflict" in series]
