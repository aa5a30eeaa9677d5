"""Tests of facade.api.batch: many messages in one POST, over HTTP."""

import json
from typing import Any

import pytest
from falcon import testing

from facade.api import body
from tests.support.facade import NODES, MemorySystem


@pytest.mark.parametrize("content_type", [body.JSON, body.NDJSON])
def test_each_message_of_a_batch_has_its_own_result(http: testing.TestClient, content_type: str) -> None:
    """Results are in order; an invalid message is named by its index and the reason, and the others are stored.

    The status is 400, so that a program that reads only the status does not take the batch for stored.
    """
    sent: list[Any] = [{"msg": "a"}, {"msg": ""}, {"msg": "b"}, 5, {"msg": "x" * 70_000}, {"msg": "c"}]
    lines = [json.dumps(one) for one in sent]
    text = "\n".join(lines) + "\n\n" if content_type == body.NDJSON else f"[{','.join(lines)}]"
    posted = http.simulate_post("/v1/messages", body=text, content_type=content_type)
    results = posted.json["results"]

    assert (400, NODES[0]) == (posted.status_code, posted.headers["x-logging-node"])
    assert "3 of 6 messages are not valid, and only they are not stored; see results" == posted.json["detail"]
    assert [None, 1, None, 3, 4, None] == [one.get("index") for one in results]
    assert "No message provided" == results[1]["message"]
    assert "the body must be a JSON object, not a number" == results[3]["message"]
    assert "over the limit of 65536" in results[4]["message"]
    good = [one["id"] for one in results if "id" in one]
    assert good == sorted(good)
    messages = http.simulate_get("/v1/messages").json["messages"]
    assert [("a", good[0]), ("b", good[1]), ("c", good[2])] == [(one["msg"], one["id"]) for one in messages]


def test_a_batch_has_at_most_ten_thousand_messages(http: testing.TestClient) -> None:
    """A batch at the limit is stored, in several requests to a node; one more message is refused."""
    lines = '{"msg":"x"}\n' * 10_000
    posted = http.simulate_post("/v1/messages", body=lines, content_type=body.NDJSON)
    refused = http.simulate_post("/v1/messages", body=lines + '{"msg":"x"}', content_type=body.NDJSON)

    assert (200, 10_000) == (posted.status_code, len({one["id"] for one in posted.json["results"]}))
    assert (400, "a batch has 1 to 10000 messages, not more") == (refused.status_code, refused.json["message"])
    assert 10_000 == len(http.simulate_get("/facade").json["logs"])


def test_a_batch_that_no_node_confirmed_has_an_unknown_outcome(system: MemorySystem, http: testing.TestClient) -> None:
    """The response is 503: the messages that were sent may be stored, the others were not sent; each has its id."""
    for node in NODES:
        system.transport.cut(node)
    posted = http.simulate_post("/v1/messages", body='{"msg":"x"}\n' * 1_001, content_type=body.NDJSON)
    results = posted.json["results"]

    assert (503, "1") == (posted.status_code, posted.headers["retry-after"])
    assert 1_001 == len(results)
    assert "it may still be stored" in results[0]["message"]
    assert "it was not sent, because an earlier one failed" == results[-1]["message"]
    assert 36 == len(results[0]["id"])


def test_a_batch_with_keys_can_be_sent_again(http: testing.TestClient) -> None:
    """Each message is stored once, under its first id; one without a key is stored again."""
    lines = [{"msg": "a", "key": "k1"}, {"msg": "b"}, {"msg": "c", "key": "k2", "fields": {"n": 1}}]
    first, again = (http.simulate_post("/v1/messages", json=lines) for _ in range(2))
    one, two, three = first.json["results"]

    assert [200, 200] == [first.status_code, again.status_code]
    assert [one | {"replayed": True}, three | {"replayed": True}] == again.json["results"][::2]
    assert two["id"] != again.json["results"][1]["id"]
    assert ["a", "b", "c", "b"] == http.simulate_get("/facade").json["logs"]


def test_a_key_of_another_message_is_an_error_of_its_line(http: testing.TestClient) -> None:
    """The others are stored; also within one batch, and for other fields."""
    http.simulate_post("/v1/messages", json={"msg": "a", "key": "k1"})
    lines = [{"msg": "b", "key": "k1"}, {"msg": "c", "key": "k2"}, {"msg": "c", "key": "k2", "fields": {"n": 1}}]
    posted = http.simulate_post("/v1/messages", json=lines)

    wrong = "the idempotency key was sent with another message before"
    assert (400, [wrong, None, wrong]) == (
        posted.status_code,
        [one.get("message") for one in posted.json["results"]],
    )
    assert ["a", "c"] == http.simulate_get("/facade").json["logs"]


def test_a_key_works_in_the_header_in_a_message_and_in_a_batch(http: testing.TestClient) -> None:
    """It is one key wherever it stands, but not two in one request."""
    headers = {"Idempotency-Key": "k"}
    posted = [
        http.simulate_post("/v1/messages", json={"msg": "a"}, headers=headers).json["id"],
        http.simulate_post("/v1/messages", json={"msg": "a", "key": "k"}).json["id"],
        http.simulate_post("/v1/messages", json=[{"msg": "a", "key": "k"}]).json["results"][0]["id"],
    ]
    differ = http.simulate_post("/v1/messages", json={"msg": "a", "key": "other"}, headers=headers)

    assert 1 == len(set(posted))
    assert (400, "Idempotency-Key and the key in the message differ; give one of them") == (
        differ.status_code,
        differ.json["message"],
    )
