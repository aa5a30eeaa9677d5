"""Tests of facade.client.node_statistics."""

from common.discovery.lookup import LookupOutcome
from facade.client.node_statistics import RECENT_ANSWERS, NodeStatistics


def test_latencies_are_those_of_the_last_answers() -> None:
    """Failed attempts are counted by reason and have no latency; lookups are counted by outcome."""
    statistics = NodeStatistics()
    assert 0.0 == statistics.of("a").quantile_ms(0.5)
    for number in range(2 * RECENT_ANSWERS):
        statistics.record("a", number / 1_000)
    statistics.record("a", 100.0, "timedout")
    statistics.record_lookup(LookupOutcome.STALE)
    counts = statistics.of("a")

    assert (2 * RECENT_ANSWERS, 1, {"timedout": 1}) == (counts.answers, counts.errors, counts.failures)
    assert (1_500.0, 1_990.0, 1_999.0) == tuple(round(counts.quantile_ms(share), 3) for share in (0.5, 0.99, 1.0))
    assert {"answered": 0, "stale": 1, "failed": 0} == statistics.lookups()
