"""Tests of facade.status.request_rate."""

from facade.status.request_rate import LATENCIES, SAMPLES, RequestRate


def test_a_sample_has_the_rate_and_latency_quantiles_since_the_last_one() -> None:
    """Before the first request the rate is 0, and there are no quantiles."""
    now_s = [0.0]
    request_rate = RequestRate(lambda: now_s[0])
    empty = request_rate.last()
    assert (0.0, None) == (empty.requests_per_s, empty.p50_ms)
    for number in range(100):
        request_rate.record(number / 1_000)
    now_s[0] = 2.0
    sample = request_rate.last()

    assert (50.0, 50.0, 99.0) == (sample.requests_per_s, sample.p50_ms, sample.p99_ms)


def test_the_latencies_of_one_sample_are_limited() -> None:
    """Requests over the limit are counted, and their latencies do not change the quantiles."""
    now_s = [0.0]
    request_rate = RequestRate(lambda: now_s[0])
    request_rate.last()
    for latency_s in (0.001, 1.0):
        for _ in range(LATENCIES):
            request_rate.record(latency_s)
    now_s[0] = 1.0
    sample = request_rate.last()

    assert (2.0 * LATENCIES, 1.0, 1.0) == (sample.requests_per_s, sample.p50_ms, sample.p99_ms)


def test_the_samples_of_five_minutes_are_kept() -> None:
    """Older samples are dropped."""
    now_s = [0.0]
    request_rate = RequestRate(lambda: now_s[0])
    for _ in range(SAMPLES + 5):
        now_s[0] += 1.0
        request_rate.last()

    assert SAMPLES == len(request_rate.samples())
