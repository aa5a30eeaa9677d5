"""Tests of nodes.metrics: what Prometheus scrapes from a logging node."""

import asyncio

import pytest

from common import ids
from common.errors import FatalError, StoreError
from common.protocol.admin import Report, report
from common.protocol.codec import Reply, Request
from common.protocol.content import Entry
from common.protocol.messages import Append, Code, Failure, Ping, State
from nodes.metrics import NodeMetrics
from scripts.launcher.ports import free_addresses
from tests.support.facade import NODES
from tests.support.servers import metric_values, scrape


def test_a_node_counts_its_replies_by_outcome_and_shows_its_report() -> None:
    """Refusals and errors are outcomes, too; a scrape leaves out a report that is not made in time."""
    hang = [False]

    async def make_report() -> Report:
        if hang[0]:
            await asyncio.Event().wait()
        replica = {"term": 12, "in_sync": NODES, "unconfirmed": 5}
        return report("logging-service", State.READY, engine="hazelcast", entries=7, messages=9, **replica)

    async def handle(request: Request) -> Reply:
        if isinstance(request, Append):
            raise StoreError("no")
        return Failure(code=Code.OVERLOADED, reason="")

    async def run() -> tuple[dict[str, float], dict[str, float]]:
        metrics = new_metrics()
        (address,) = free_addresses(1)
        with metrics.served(address):
            await metrics.measured(handle)(Ping())
            with pytest.raises(StoreError):
                await metrics.measured(handle)(Append(entries=(Entry(ids.new_id(), ""),)))
            first = metric_values(await asyncio.to_thread(scrape, address))
            hang[0] = True
            second = metric_values(await asyncio.to_thread(scrape, address))
            with pytest.raises(FatalError, match=f"cannot serve metrics at {address}"), new_metrics().served(address):
                pass
        return first, second

    def new_metrics() -> NodeMetrics:
        metrics = NodeMetrics()
        metrics.watch(make_report, lambda: {"key": 2})
        return metrics

    first, second = asyncio.run(run())
    assert 1.0 == first['threefold_node_requests_total{outcome="overloaded",type="ping"}']
    assert 1.0 == first['threefold_node_requests_total{outcome="failed",type="append"}']
    assert 2.0 == first['threefold_connections_refused_total{reason="key"}']
    assert (7.0, 9.0) == (first["threefold_map_entries"], first["threefold_journal_messages"])
    replica = ("in_sync", "term", "unconfirmed_records")
    assert [3.0, 12.0, 5.0] == [first[f"threefold_replica_{name}"] for name in replica]
    assert "threefold_map_entries" not in second
    assert "threefold_node_requests_in_flight" in second
