"""Tests of `/v1/messages` in facade.api: HTTP over the in-memory system."""

import json
from typing import Any

import pytest
from falcon import testing

from common import ids
from common.protocol.messages import Entry, Read
from facade.api import body
from facade.streams.responses import StreamSemaphore
from tests.support.facade import NODES, World

NOWHERE = "00000000-0000-0000-0000-000000000000"


@pytest.fixture
def world() -> World:
    """A whole system in memory."""
    return World()


@pytest.fixture
def slots() -> StreamSemaphore:
    """For two streams."""
    return StreamSemaphore(2)


@pytest.fixture
def http(world: World, slots: StreamSemaphore) -> testing.TestClient:
    """HTTP in front of it."""
    return world.http(slots)


def fill(world: World, count: int) -> list[Entry]:
    """Entries in the order of their ids."""
    entries = [Entry(ids.new_id(), f"text {number} é") for number in range(count)]
    world.store(entries)
    return entries


def shown(entry: Entry) -> dict[str, str]:
    """An entry as JSON has it."""
    return {"id": entry.id, "time": ids.time_text(entry.id), "msg": entry.msg}


def test_one_message_is_created_and_found(http: testing.TestClient) -> None:
    """201 with its place, and there it is, to be kept for ever; HEAD works, too."""
    posted = http.simulate_post("/v1/messages", json={"msg": "hi"})
    found = http.simulate_get(posted.headers["location"])

    assert (201, NODES[0]) == (posted.status_code, posted.headers["x-logging-node"])
    assert f"/v1/messages/{posted.json['id']}" == posted.headers["location"]
    assert (200, {**posted.json, "msg": "hi"}) == (found.status_code, found.json)
    assert "immutable" in found.headers["cache-control"]
    assert "Z" == posted.json["time"][-1]
    assert 200 == http.simulate_head(posted.headers["location"]).status_code
    assert {"logs": ["hi"], "message": "not implemented yet"} == http.simulate_get("/facade").json


def test_plain_text_is_one_message(http: testing.TestClient) -> None:
    """What `echo` sends: its newline at the end is not part of the message."""
    for sent in ("disk full on é\n", "two\nlines\r\n", "x"):
        assert 201 == http.simulate_post("/v1/messages", body=sent.encode(), content_type="text/plain").status_code

    assert ["disk full on é", "two\nlines", "x"] == http.simulate_get("/facade").json["logs"]


def test_a_key_makes_a_repeated_post_the_same_post(http: testing.TestClient) -> None:
    """As for `/facade`; many messages have none."""
    headers = {"Idempotency-Key": "k"}
    first, again = (http.simulate_post("/v1/messages", json={"msg": "a"}, headers=headers) for _ in range(2))
    many = http.simulate_post("/v1/messages", json=[{"msg": "a"}], headers=headers)

    assert first.json == again.json
    assert (None, "true") == (first.headers.get("idempotent-replayed"), again.headers["idempotent-replayed"])
    assert (400, "Idempotency-Key belongs to one message, not to a batch") == (many.status_code, many.json["message"])


@pytest.mark.parametrize("content_type", [body.JSON, body.NDJSON])
def test_many_are_stored_and_each_is_told_what_became_of_it(http: testing.TestClient, content_type: str) -> None:
    """In order; a bad one names its place and why, and costs the others nothing."""
    sent: list[Any] = [{"msg": "a"}, {"msg": ""}, {"msg": "b"}, 5, {"msg": "x" * 70_000}, {"msg": "c"}]
    lines = [json.dumps(one) for one in sent]
    text = "\n".join(lines) + "\n\n" if content_type == body.NDJSON else f"[{','.join(lines)}]"
    posted = http.simulate_post("/v1/messages", body=text, content_type=content_type)
    results = posted.json["results"]

    assert (200, NODES[0]) == (posted.status_code, posted.headers["x-logging-node"])
    assert [None, 1, None, 3, 4, None] == [one.get("index") for one in results]
    assert "No message provided" == results[1]["message"]
    assert "the body must be a JSON object, not a number" == results[3]["message"]
    assert "over the limit of 65536" in results[4]["message"]
    good = [one["id"] for one in results if "id" in one]
    assert good == sorted(good)
    messages = http.simulate_get("/v1/messages").json["messages"]
    assert [("a", good[0]), ("b", good[1]), ("c", good[2])] == [(one["msg"], one["id"]) for one in messages]


def test_ten_thousand_are_many_and_one_more_is_too_many(http: testing.TestClient) -> None:
    """They travel in several messages to a node."""
    lines = '{"msg":"x"}\n' * 10_000
    posted = http.simulate_post("/v1/messages", body=lines, content_type=body.NDJSON)
    refused = http.simulate_post("/v1/messages", body=lines + '{"msg":"x"}', content_type=body.NDJSON)

    assert (200, 10_000) == (posted.status_code, len({one["id"] for one in posted.json["results"]}))
    assert (400, "a batch has 1 to 10000 messages, not more") == (refused.status_code, refused.json["message"])
    assert 10_000 == len(http.simulate_get("/facade").json["logs"])


def test_what_no_node_confirmed_of_a_batch_is_told(world: World, http: testing.TestClient) -> None:
    """503: of those that were sent it is not known, the others were not sent; the ids are there to look for them."""
    for node in NODES:
        world.transport.cut(node)
    posted = http.simulate_post("/v1/messages", body='{"msg":"x"}\n' * 1_001, content_type=body.NDJSON)
    results = posted.json["results"]

    assert (503, "1") == (posted.status_code, posted.headers["retry-after"])
    assert 1_001 == len(results)
    assert "it may still be stored" in results[0]["message"]
    assert "it was not sent, because an earlier one failed" == results[-1]["message"]
    assert 36 == len(results[0]["id"])


def test_pages_together_are_everything(world: World, http: testing.TestClient) -> None:
    """From either end, by the links alone."""
    entries = fill(world, 25)
    for order in ("asc", "desc"):
        found, link = [], f"/v1/messages?limit=10&order={order}"
        while link:
            page = http.simulate_get(link)
            found += page.json["messages"]
            link = _link(page)
        assert [shown(entry) for entry in (entries if order == "asc" else entries[::-1])] == found


def _link(page: testing.Result) -> str:
    link = page.headers.get("link", "")
    assert bool(link) == bool(page.json["next"])
    return link.partition(">")[0].removeprefix("<")


def test_a_time_range_is_read(world: World, http: testing.TestClient) -> None:
    """From a time on, to before another one."""
    entries = [Entry(ids.first_id(1_795_507_200_000 + 1_000 * number), str(number)) for number in range(5)]
    world.store(entries)
    params = {"from": "2026-11-24T08:00:01Z", "to": "2026-11-24T08:00:03Z"}

    for order, expected in (("asc", ["1", "2"]), ("desc", ["2", "1"])):
        found = http.simulate_get("/v1/messages", params={**params, "order": order}).json["messages"]
        assert expected == [one["msg"] for one in found]


def test_everything_as_lines(world: World, http: testing.TestClient, slots: StreamSemaphore) -> None:
    """One JSON object per line, page after page, from either end; the slot is free again."""
    entries = fill(world, 2_345)
    headers = {"Accept": "application/x-ndjson"}
    for order, expected in (("asc", entries), ("desc", entries[::-1])):
        streamed = http.simulate_get(f"/v1/messages?order={order}", headers=headers)
        assert (200, "application/x-ndjson") == (streamed.status_code, streamed.headers["content-type"])
        assert [shown(entry) for entry in expected] == [json.loads(line) for line in streamed.text.splitlines()]
    rest = http.simulate_get(f"/v1/messages?after={entries[-2].id}", headers=headers)
    assert [shown(entries[-1])] == [json.loads(line) for line in rest.text.splitlines()]
    assert slots.acquire()
    assert slots.acquire()


def test_streams_have_a_limit(http: testing.TestClient, slots: StreamSemaphore) -> None:
    """One more is 503, for lines and for events; a page is none."""
    assert slots.acquire()
    assert slots.acquire()
    for accept in ("application/x-ndjson", "text/event-stream"):
        refused = http.simulate_get("/v1/messages", headers={"Accept": accept})
        assert (503, "1") == (refused.status_code, refused.headers["retry-after"])
        assert "2 streams are open, which is the limit" == refused.json["message"]
        assert 200 == http.simulate_head("/v1/messages", headers={"Accept": accept}).status_code
    assert 200 == http.simulate_get("/v1/messages").status_code


def test_a_message_is_missing_when_a_listed_node_says_so(world: World, http: testing.TestClient) -> None:
    """One is asked, for each has everything that was acknowledged; when none answers it is 503, not a false 404."""
    fill(world, 3)
    missing = http.simulate_get(f"/v1/messages/{NOWHERE[:-1]}7")
    asked = [address for address, request in world.transport.called if isinstance(request, Read)]

    assert (404, f"there is no message {NOWHERE[:-1]}7") == (missing.status_code, missing.json["message"])
    assert [NODES[0]] == asked
    for node in NODES:
        world.transport.kill(node)
    assert 503 == http.simulate_get(f"/v1/messages/{NOWHERE}").status_code


@pytest.mark.parametrize(
    ("path", "headers", "told"),
    [
        ("/v1/messages?limit=x", {}, "limit must be a number from 1 to 1000"),
        ("/v1/messages?limit=1&limit=2", {}, "limit is given 2 times"),
        ("/v1/messages?limit=1", {"Accept": "application/x-ndjson"}, "limit is for pages"),
        ("/v1/messages?limits=1", {"Accept": "application/x-ndjson"}, "there is no parameter 'limits'"),
        ("/v1/messages?limit=1", {"Accept": "text/event-stream"}, "no parameter 'limit' for text/event-stream"),
        ("/v1/messages?after=x", {"Accept": "text/event-stream"}, "after must be the id of a message"),
        ("/v1/messages", {"Accept": "text/event-stream", "Last-Event-ID": "x"}, "Last-Event-ID must be the id"),
        ("/v1/messages/x", {}, "the id must be the id of a message"),
    ],
)
def test_a_wrong_parameter_is_400(http: testing.TestClient, path: str, headers: dict[str, str], told: str) -> None:
    """It is named."""
    answered = http.simulate_get(path, headers=headers)

    assert 400 == answered.status_code
    assert told in answered.json["message"]


def test_a_body_of_another_type_is_415(http: testing.TestClient) -> None:
    """Forms are what curl sends when it is told nothing: the sentence says what to announce."""
    answered = http.simulate_post("/v1/messages", body="msg=a", content_type="application/x-www-form-urlencoded")

    assert 415 == answered.status_code
    assert "must be application/json or application/x-ndjson or text/plain" in answered.json["message"]


def test_every_reply_tells_where_its_time_went(world: World, http: testing.TestClient) -> None:
    """Also an error's."""
    replies = [
        http.simulate_post("/facade", json={"msg": "a"}),
        http.simulate_get("/facade"),
        http.simulate_get("/v1/messages"),
        http.simulate_get("/nowhere"),
    ]
    for node in NODES:
        world.transport.kill(node)
    replies.append(http.simulate_post("/v1/messages", json={"msg": "a"}))

    for reply in replies:
        parts = dict(part.split(";dur=") for part in reply.headers["server-timing"].split(", "))
        assert ["queue", "registry", "node", "store"] == list(parts)
        assert all(float(spent) >= 0 for spent in parts.values())
    assert 0 < float(parts["node"])  # all of them were tried in vain
    parts = dict(part.split(";dur=") for part in replies[0].headers["server-timing"].split(", "))
    assert 0 <= float(parts["store"]) < float(parts["node"])
    assert 0 < float(parts["registry"])
