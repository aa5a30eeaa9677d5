"""Tests of what users of a log need, on a real cluster: fields, search, and batches that may be sent again."""

import json
import threading
import time
from typing import Any

from common import ids
from scripts.client.api import Api
from scripts.client.connection import CLIENT_ERRORS, HttpClient, HttpReply, client
from scripts.launcher.cluster import Cluster
from tests.support.clusters import quiet
from tests.support.waiting import eventually

NDJSON = {"Content-Type": "application/x-ndjson"}


def facade(cluster: Cluster) -> str:
    """host:port of the facade."""
    return cluster.settings.facade.address


def lines(count: int, name: str) -> bytes:
    """A batch, each message with a key of its own and fields."""
    records = [
        {"msg": f"{name} {number}", "key": f"{name}-{number}", "fields": {"n": number, "even": number % 2 == 0}}
        for number in range(count)
    ]
    return b"".join(json.dumps(record).encode() + b"\n" for record in records)


def post(http_client: HttpClient, body: bytes) -> HttpReply:
    """Send a batch."""
    return http_client.call("POST", "/v1/messages", body, NDJSON)


def everything(cluster: Cluster, **query: str) -> list[dict[str, Any]]:
    """All messages that a query finds."""
    return list(Api(f"http://{facade(cluster)}").everything(query))


def test_fields_and_nodes_are_at_every_node(restored_cluster: Cluster) -> None:
    """Whichever node answers, and after the one that accepted the message has died."""
    with client(facade(restored_cluster)) as http_client:
        fields = {"level": "error", "n": 5, "load": 0.5, "on": True, "é": "\u2028"}
        body = json.dumps({"msg": "with fields", "fields": fields}).encode()
        posted = http_client.call("POST", "/v1/messages", body, {"Content-Type": "application/json"})
        node = posted.headers["x-logging-node"]
        number = 1 + [part.address for part in restored_cluster.parts if part.name.startswith("logging")].index(node)
        restored_cluster.kill([number])
        for _ in range(6):
            found = http_client.call("GET", f"/v1/messages/{posted.document['id']}").document
            assert (fields, node) == (found["fields"], found["node"])
        restored_cluster.start([number], quiet)


def test_a_batch_that_is_sent_again_is_stored_once(restored_cluster: Cluster) -> None:
    """Twice at once, while a node that works on it is killed, and later: the ids are those of the first time."""
    body = lines(1_000, "again")
    replies: list[HttpReply] = []

    def send() -> None:
        with client(facade(restored_cluster)) as http_client:
            while True:  # as a shipper does: until the batch is stored
                try:
                    reply = post(http_client, body)
                except CLIENT_ERRORS:
                    continue
                if reply.status == 200:
                    replies.append(reply)
                    return

    threads = [threading.Thread(target=send) for _ in range(2)]
    for thread in threads:
        thread.start()
    time.sleep(0.1)  # the requests are at work
    restored_cluster.kill([1])
    for thread in threads:
        thread.join(60.0)
    send()
    restored_cluster.start([1], quiet)
    send()

    stored = [[one["id"] for one in reply.document["results"]] for reply in replies]
    assert 4 == len(stored)
    assert 1 == len({tuple(one) for one in stored})
    found = everything(restored_cluster, contains="again ")
    assert sorted(stored[0]) == [one["id"] for one in found]
    assert {f"again {number}" for number in range(1_000)} == {one["msg"] for one in found}


def test_a_search_finds_a_message_wherever_it_is(cluster: Cluster) -> None:
    """In pages, lines and the events of a follower, whatever the case."""
    begin = ids.first_id(ids.now_ms())
    found: list[str] = []
    api = Api(f"http://{facade(cluster)}")

    def follow() -> None:
        for message in api.follow(begin, {"contains": "NEEDLE", "field.even": "true"}):
            found.append(message["msg"])
            if len(found) == 5:
                return

    follower = threading.Thread(target=follow)
    follower.start()
    with client(facade(cluster)) as http_client:
        assert 200 == post(http_client, lines(500, "hay")).status
        assert 200 == post(http_client, lines(10, "Needle")).status
    eventually(lambda: len(found) == 5, timeout_s=20.0)
    follower.join(10.0)
    api.close()

    expected = [f"Needle {number}" for number in (0, 2, 4, 6, 8)]
    assert expected == sorted(found)  # other nodes decide about the keys, so the order of arrival is any
    query = {"contains": "needle", "field.even": "true", "after": begin}
    assert expected == [one["msg"] for one in everything(cluster, **query)]
    newest = Api(f"http://{facade(cluster)}").page({"contains": "needle", "limit": "3", "order": "desc"})
    assert ["Needle 9", "Needle 8", "Needle 7"] == [one["msg"] for one in newest]
