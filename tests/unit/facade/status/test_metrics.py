"""Tests of facade.status.metrics, nodes.metrics and what docs/prometheus makes of them, on real clusters."""

import asyncio
import json
import os
import re
import shutil
import subprocess
import urllib.request

import pytest
from prometheus_client.parser import text_string_to_metric_families

from common import ids
from common.errors import FatalError, KeyConflictError, StoreError
from common.protocol.admin import Report, report
from common.protocol.codec import Reply, Request
from common.protocol.messages import Append, Code, Entry, Failure, Ping, State
from facade.status.request_rate import LATENCIES, SAMPLES, RequestRate
from nodes.metrics import NodeMetrics
from scripts.launcher.cluster import Cluster
from scripts.launcher.ports import free_addresses
from scripts.launcher.processes import ROOT
from tests.support.facade import NODES, OTHER_REGISTRY, REGISTRY, World

FOLDER = ROOT / "docs" / "prometheus"


@pytest.fixture
def promtool() -> str:
    """Prometheus' own checker; without it these tests skip on a person's machine and fail on CI."""
    found = shutil.which("promtool")
    if not found and not os.environ.get("CI"):
        pytest.skip("no promtool here: apt-get install prometheus")
    assert found
    return found


def scraped(address: str) -> str:
    """What Prometheus gets there."""
    with urllib.request.urlopen(f"http://{address}/metrics", timeout=10) as answer:
        text: str = answer.read().decode()
    return text


def samples(text: str) -> dict[str, float]:
    """The value of each series, by its name and labels as they are written."""
    return {
        name: float(value)
        for line in text.splitlines()
        if not line.startswith("#")
        for name, _, value in [line.rpartition(" ")]
    }


def posted(cluster: Cluster, text: str) -> str:
    """The node that took a message."""
    url = f"http://{cluster.settings.facade.address}/v1/messages"
    with urllib.request.urlopen(
        urllib.request.Request(url, text.encode(), {"Content-Type": "text/plain"}), timeout=10
    ) as answer:
        node: str = answer.headers["X-Logging-Node"]
    return node


def test_a_cluster_is_scraped_and_all_that_the_rules_and_the_dashboard_ask_for_is_there(
    cluster: Cluster, promtool: str
) -> None:
    """Facade and nodes count what they do, in names that promtool finds nothing wrong with."""
    nodes = cluster.settings.metrics.logging_service
    facade = cluster.settings.facade.address
    series = 'threefold_http_requests_total{method="POST",route="/v1/messages",status="201"}'
    before = samples(scraped(facade)).get(series, 0.0)
    node = posted(cluster, "counted")
    pages = [scraped(address) for address in (facade, *nodes)]

    assert before + 1 == samples(pages[0])[series]
    assert samples(pages[0])[f'threefold_node_answers_total{{node="{node}"}}'] >= 1
    own = samples(pages[1 + cluster.settings.service_ips.logging_service.index(node)])
    assert own['threefold_node_requests_total{outcome="ok",type="append"}'] >= 1
    assert own["threefold_journal_commit_duration_seconds_count"] >= 1
    # The first put after a start may take longer than a message waits for the map.
    assert own["threefold_map_append_duration_seconds_count"] + own["threefold_map_appends_missed_total"] >= 1
    assert (3.0, 1.0) == (own["threefold_hazelcast_members"], own['threefold_node_state{state="ready"}'])
    assert 3.0 == own["threefold_replica_in_sync"]
    assert own["threefold_replica_term"] >= 1
    assert own["threefold_replica_unconfirmed_records"] >= 0
    for page in pages:
        checked = subprocess.run(
            [promtool, "check", "metrics"], input=page, capture_output=True, text=True, check=False
        )
        assert (0, "") == (checked.returncode, checked.stderr)
    known = {
        sample.name for page in pages for family in text_string_to_metric_families(page) for sample in family.samples
    }
    # A counter of what has not happened yet has no series.
    known |= {"up", "threefold_node_failed_attempts_total"}
    assert set() == asked_for() - known


def asked_for() -> set[str]:
    """The names of all series in the rules and in the dashboard."""
    dashboard = json.loads((FOLDER / "dashboard.json").read_text())
    expressions = [target["expr"] for panel in dashboard["panels"] for target in panel["targets"]]
    expressions += re.findall(r"^ +expr: (.*)$", (FOLDER / "threefold.rules.yml").read_text(), re.MULTILINE)
    assert len(expressions) > 20
    return {name for one in expressions for name in re.findall(r"\b(?:threefold_\w+|process_\w+|up\b)", one)}


def test_rules_and_configuration_are_valid(promtool: str) -> None:
    """Promtool takes them, and the alerts fire when they should."""
    for command in (
        ["check", "rules", "threefold.rules.yml"],
        ["check", "config", "prometheus.yml"],
        ["test", "rules", "threefold.rules.test.yml"],
    ):
        ended = subprocess.run(
            [promtool, *command], cwd=FOLDER, capture_output=True, text=True, check=False, timeout=60
        )
        assert 0 == ended.returncode, ended.stdout + ended.stderr


def test_labels_are_bounded() -> None:
    """Whatever clients ask for, unknown paths are one series, and unknown methods."""
    http = World().http()
    for method in ("PATCH", "DELETE"):
        http.simulate_request(method, "/facade")
    for path in ("/a", "/b/c", "/v1/messages/not-an-id", "/v1/messages/01a20c21-40b9-743e-8cff-65c316df4a96"):
        http.simulate_get(path)
    found = http.simulate_get("/metrics").text

    assert 'method="GET",route="none",status="404"} 2.0' in found
    assert 'method="other",route="/facade",status="405"} 2.0' in found
    assert 'route="/v1/messages/{message_id}",status="404"} 1.0' in found
    assert 'route="/v1/messages/{message_id}",status="400"} 1.0' in found


def test_what_fails_is_counted_by_node_and_reason() -> None:
    """A dead node is a fallback, a silent registry a stale lookup."""
    world = World()
    world.client.append(ids.new_id(), "a")
    world.transport.kill(NODES[0])
    world.client.append(ids.new_id(), "b")
    for registry in (REGISTRY, OTHER_REGISTRY):
        world.transport.kill(registry)
    world.client.append(ids.new_id(), "c")
    world.client.append(ids.new_id(), "d", "key")
    with pytest.raises(KeyConflictError):
        world.client.append(ids.new_id(), "e", "key")
    found = samples(world.metrics.text().decode())

    assert 1.0 == found[f'threefold_node_failed_attempts_total{{node="{NODES[0]}",reason="unreachable"}}']
    assert (2.0, 3.0) == tuple(
        found[f'threefold_registry_lookups_total{{outcome="{outcome}"}}'] for outcome in ("answered", "stale")
    )
    assert not [series for series in found if "conflict" in series]


def test_a_node_counts_its_answers_by_outcome_and_serves_what_it_knows() -> None:
    """Also refusals and errors; a scrape asks the node how it is, and goes without that when it does not say so."""
    hang = [False]
    told = asyncio.Event

    async def how() -> Report:
        if hang[0]:
            await told().wait()
        replica = {"term": 12, "in_sync": NODES, "unconfirmed": 5}
        return report("logging-service", State.READY, engine="hazelcast", entries=7, messages=9, **replica)

    async def handle(request: Request) -> Reply:
        if isinstance(request, Append):
            raise StoreError("no")
        return Failure(code=Code.OVERLOADED, reason="")

    async def run() -> tuple[dict[str, float], dict[str, float]]:
        metrics = watching()
        (address,) = free_addresses(1)
        with metrics.served(address):
            await metrics.measured(handle)(Ping())
            with pytest.raises(StoreError):
                await metrics.measured(handle)(Append(entries=(Entry(ids.new_id(), ""),)))
            first = samples(await asyncio.to_thread(scraped, address))
            hang[0] = True
            second = samples(await asyncio.to_thread(scraped, address))
            with pytest.raises(FatalError, match=f"cannot serve metrics at {address}"), watching().served(address):
                pass
        return first, second

    def watching() -> NodeMetrics:
        metrics = NodeMetrics()
        metrics.watch(how, lambda: {"key": 2})
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


def test_traffic_is_told_second_by_second() -> None:
    """Rate and quantiles of a second, five minutes of them, and no more times of one second than a limit."""
    now_s = [0.0]
    traffic = RequestRate(lambda: now_s[0])
    assert (0.0, None) == ((first := traffic.last()).requests_per_s, first.p50_ms)
    for number in range(100):
        traffic.record(number / 1_000)
    now_s[0] = 2.0
    sample = traffic.last()
    assert (50.0, 50.0, 99.0) == (sample.requests_per_s, sample.p50_ms, sample.p99_ms)
    for _ in range(LATENCIES + 10):
        traffic.record(0.001)
    assert LATENCIES == len(traffic._spent_s)
    for _ in range(SAMPLES + 5):
        now_s[0] += 1.0
        traffic.last()
    assert SAMPLES == len(traffic.samples())
