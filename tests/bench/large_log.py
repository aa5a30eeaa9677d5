"""`python -m tests.bench.large_log`: reads a large log completely, twice, while two nodes are killed."""

import http.client
import json
import time

import click

from common import ids
from scripts.client import transfer
from scripts.launcher.cluster import Cluster
from tests.bench.load.wrk import processes_of
from tests.bench.measure import a_cluster, old_line

CHUNK_BYTES = 1_000_000  # read at once
KILL_AFTER = 0.2  # share of the log that is read before the kill


@click.command()
@click.option("--messages", default=1_000_000, show_default=True, help="Messages to store.")
def main(messages: int) -> None:
    """GET /facade, then /v1/messages as NDJSON; print whether all messages came in order, and the facade's memory."""
    with a_cluster() as cluster:
        now_ms = ids.now_ms()
        lines = [old_line(now_ms - messages + number, number) for number in range(messages)]
        with transfer.connected(cluster.settings, cluster.path.parent) as nodes:
            transfer.import_lines(nodes, iter(lines), click.echo)
        expected = [(one["id"], one["msg"]) for one in map(json.loads, lines)]
        kill_after = int(KILL_AFTER * sum(map(len, lines)))
        logs = json.loads(_taken(cluster, "/facade", "application/json", kill_after))["logs"]
        click.echo(f"/facade complete and in order: {logs == [text for _, text in expected]}")
        cluster.start([1, 2], click.echo)
        found = _taken(cluster, "/v1/messages", "application/x-ndjson", kill_after).splitlines()
        click.echo(
            "/v1/messages complete and in order: "
            f"{expected == [(one['id'], one['msg']) for one in map(json.loads, found)]}"
        )


def _taken(cluster: Cluster, path: str, accept: str, kill_after: int) -> bytes:
    """The body of an answer; two nodes are killed after `kill_after` bytes of it."""
    (facade,) = processes_of(cluster)["facade"]
    connection = http.client.HTTPConnection(cluster.settings.facade.address, timeout=30)
    began = time.perf_counter()
    connection.request("GET", path, headers={"Accept": accept})
    response, body, megabytes = connection.getresponse(), bytearray(), [facade.memory_info().rss / 1e6]
    while chunk := response.read(CHUNK_BYTES):
        if len(body) < kill_after <= len(body) + len(chunk):
            cluster.kill([1, 2])
        body += chunk
        megabytes.append(facade.memory_info().rss / 1e6)
    connection.close()
    click.echo(
        f"{len(body) / 1e6:.0f} MB in {time.perf_counter() - began:.0f} s, memory of the facade at first "
        f"{megabytes[0]:.0f}, most {max(megabytes):.0f}, at last {megabytes[-1]:.0f} MB"
    )
    return bytes(body)


if __name__ == "__main__":
    main()
