"""Tests of docs/wire.md on a real cluster."""

from functools import partial
from typing import Any

import msgpack
import zmq

from scripts.launcher.cluster import Cluster
from tests.support.waiting import eventually

ID = "018bcfe5-687b-7fff-bfff-ffffffffffff"


def test_a_client_needs_only_zeromq_and_msgpack(embedded_cluster: Cluster) -> None:
    """Without our code it looks up a node, stores a message, reads it back, and gets errors that it can read."""
    with zmq.Context() as context:

        def ask(address: str, **fields: object) -> dict[str, Any]:
            with context.socket(zmq.REQ) as socket:
                socket.setsockopt(zmq.RCVTIMEO, 5_000)
                socket.setsockopt(zmq.LINGER, 0)
                socket.connect(f"tcp://{address}")
                socket.send(msgpack.packb({"v": 4, **fields}))
                reply: dict[str, Any] = msgpack.unpackb(socket.recv())
                return reply

        lookup = ask(embedded_cluster.settings.registry.addresses[0], type="lookup", name="logging-service")
        node = lookup["values"][0]
        stored = ask(node, type="append", entries=[[ID, "from afar é"]])
        page = ask(node, type="read", after="", limit=10)
        seen = stored["vector"]

        def own_entries(address: str) -> list[list[str]] | None:
            """The messages of a node once it has what this client has written; until then it answers "behind"."""
            entries: list[list[str]] | None = ask(address, type="read", after="", limit=10, session=seen).get("entries")
            return entries

        others = [eventually(partial(own_entries, other)) for other in lookup["values"]]
        behind = ask(node, type="read", after="", limit=10, session=[[stored["vector"][0][0], 1_000]])
        wrong = ask(node, type="append", entries=[["7", "x"]])

    assert {"v": 4, "type": "lookupresult", "name": "logging-service", "values": lookup["values"]} == lookup
    assert (4, "appended", node) == tuple(stored[name] for name in ("v", "type", "node"))
    expected = [[ID, "from afar é", "", "", node]]
    assert (expected, None) == (page["entries"], page["next"])
    assert [expected] * len(lookup["values"]) == others
    assert ("failure", "behind") == (behind["type"], behind["code"])
    assert ("failure", "invalid") == (wrong["type"], wrong["code"])
    assert "entries" in wrong["reason"]
