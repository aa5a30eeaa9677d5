"""Tests of the request context in the logs of a real cluster."""

import json
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

from scripts.launcher.cluster import Cluster
from tests.support.waiting import eventually

TRACE, SPAN = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"


def lines_of(log: Path) -> list[dict[str, Any]]:
    """The JSON lines of a log file; the last line of a process that could not start is plain text."""
    return [json.loads(line) for line in log.read_text().splitlines() if line.startswith("{")]


def test_a_request_is_found_in_the_logs_of_facade_and_node(cluster: Cluster) -> None:
    """The id and the trace from the headers of a client are in the line of the facade and in that of the node."""
    url = f"http://{cluster.settings.facade.address}/v1/messages"
    headers = {"Content-Type": "text/plain", "X-Request-ID": "order-7", "traceparent": f"00-{TRACE}-{SPAN}-01"}
    urllib.request.urlopen(urllib.request.Request(url, b"hi", headers), timeout=10).close()
    logs = cluster.folder / "logs"

    (node,) = eventually(
        lambda: [
            line
            for path in logs.glob("logging-*.log")
            for line in lines_of(path)
            if line.get("request_id") == "order-7"
        ]
    )
    (facade,) = [line for line in lines_of(logs / "facade.log") if line.get("request_ids") == ["order-7"]]
    assert ("stored", "hi", TRACE) == (node["event"], node["msg"], node["traceparent"][3:35])
    assert ([node["id"]], node["node"], [node["traceparent"]]) == (
        facade["ids"],
        facade["node"],
        facade["traceparents"],
    )
    assert {"time", "level", "service", "event"} <= node.keys()
