"""Tests of the metrics of a real cluster, and of the rules and the dashboard in docs/prometheus."""

import json
import re
import subprocess
import urllib.request

import pytest
from prometheus_client.parser import text_string_to_metric_families

from scripts.launcher.cluster import Cluster
from scripts.launcher.processes import ROOT
from tests.support.servers import metric_values, scrape

FOLDER = ROOT / "docs" / "prometheus"


def post(cluster: Cluster, text: str) -> str:
    """Store a message; returns the node that accepted it."""
    url = f"http://{cluster.settings.facade.address}/v1/messages"
    with urllib.request.urlopen(
        urllib.request.Request(url, text.encode(), {"Content-Type": "text/plain"}), timeout=10
    ) as response:
        node: str = response.headers["X-Logging-Node"]
    return node


@pytest.mark.needs("promtool")
def test_the_metrics_have_every_series_of_the_rules_and_the_dashboard(cluster: Cluster) -> None:
    """Facade and nodes count their requests, and promtool finds nothing wrong with their pages."""
    nodes = cluster.settings.metrics.logging_service
    facade = cluster.settings.facade.address
    series = 'threefold_http_requests_total{method="POST",route="/v1/messages",status="201"}'
    before = metric_values(scrape(facade)).get(series, 0.0)
    node = post(cluster, "counted")
    pages = [scrape(address) for address in (facade, *nodes)]

    assert before + 1 == metric_values(pages[0])[series]
    assert metric_values(pages[0])[f'threefold_node_answers_total{{node="{node}"}}'] >= 1
    own = metric_values(pages[1 + cluster.settings.service_ips.logging_service.index(node)])
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
            ["promtool", "check", "metrics"], input=page, capture_output=True, text=True, check=False
        )
        assert (0, "") == (checked.returncode, checked.stderr)
    series_names = {
        sample.name for page in pages for family in text_string_to_metric_families(page) for sample in family.samples
    }
    # A labelled counter has no series before the first event.
    series_names |= {"up", "threefold_node_failed_attempts_total"}
    assert set() == queried_series() - series_names


def queried_series() -> set[str]:
    """The names of all series in the rules and in the dashboard."""
    dashboard = json.loads((FOLDER / "dashboard.json").read_text())
    expressions = [target["expr"] for panel in dashboard["panels"] for target in panel["targets"]]
    expressions += re.findall(r"^ +expr: (.*)$", (FOLDER / "threefold.rules.yml").read_text(), re.MULTILINE)
    assert len(expressions) > 20
    return {name for one in expressions for name in re.findall(r"\b(?:threefold_\w+|process_\w+|up\b)", one)}


@pytest.mark.needs("promtool")
def test_rules_and_configuration_are_valid() -> None:
    """The checker of Prometheus accepts them, and the alerts fire in simulated time series."""
    for command in (
        ["check", "rules", "threefold.rules.yml"],
        ["check", "config", "prometheus.yml"],
        ["test", "rules", "threefold.rules.test.yml"],
    ):
        ended = subprocess.run(
            ["promtool", *command], cwd=FOLDER, capture_output=True, text=True, check=False, timeout=60
        )
        assert 0 == ended.returncode, ended.stdout + ended.stderr
