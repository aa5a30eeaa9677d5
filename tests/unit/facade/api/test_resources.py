"""Tests of facade.api.resources: `/facade` and `/v1/messages` over the in-memory system."""

import json
from collections.abc import Callable
from functools import partial

import pytest
from falcon import testing

from common import ids
from common.protocol.codec import Reply
from common.protocol.content import Entry
from common.protocol.messages import PAGE_MESSAGES, Read
from facade.streams.responses import StreamSemaphore
from tests.support.facade import MESSAGES, NODES, MemorySystem
from tests.support.memory_node import MemoryNode, SharedTables

UNKNOWN_ID = "00000000-0000-0000-0000-000000000000"


@pytest.fixture
def streams() -> StreamSemaphore:
    """A semaphore for two streams."""
    return StreamSemaphore(2)


@pytest.fixture
def http(system: MemorySystem, streams: StreamSemaphore) -> testing.TestClient:
    """An HTTP client of a facade in front of it."""
    return system.http(streams)


def store_messages(system: MemorySystem, count: int) -> list[Entry]:
    """Store messages past the facade; returns them in the order of their ids."""
    entries = [Entry(ids.new_id(), f'text {number} "é"\n') for number in range(count)]
    system.store(entries)
    return entries


def as_json(entry: Entry) -> dict[str, str]:
    """The JSON of a message."""
    return {"id": entry.id, "time": ids.time_text(entry.id), "msg": entry.msg, "node": NODES[0]}


class DyingNode(MemoryNode):
    """A node that calls `on_read` with its address before it answers a read."""

    def __init__(self, address: str, tables: SharedTables, on_read: Callable[[str], object]) -> None:
        super().__init__(address, tables)
        self._on_read = on_read

    async def read(self, request: Read) -> Reply:
        """See MemoryNode."""
        self._on_read(self.address)
        return await super().read(request)


def dying_system(*addresses: str) -> MemorySystem:
    """A system in which all of these nodes die as soon as one of them answers a read."""

    def kill_all(reader: str) -> None:
        if reader in addresses:
            for address in addresses:
                dying.transport.kill(address)

    dying = MemorySystem(partial(DyingNode, on_read=kill_all))
    return dying


def test_the_responses_of_facade_are_those_that_older_clients_parse(http: testing.TestClient) -> None:
    """A POST and a GET have exactly the JSON that they have had from the first version on."""
    posted = http.simulate_post("/facade", json={"msg": "hi"})
    read = http.simulate_get("/facade")

    assert (200, "application/json") == (posted.status_code, posted.headers["content-type"])
    assert '{"status":"success","uuid":"' + posted.json["uuid"] + '"}' == posted.text
    assert NODES[0] == posted.headers["x-logging-node"]
    assert (200, "application/json") == (read.status_code, read.headers["content-type"])
    assert '{"logs":["hi"],"message":"not implemented yet"}' == read.text


def test_a_post_with_the_same_key_is_stored_once(system: MemorySystem, http: testing.TestClient) -> None:
    """The same key and text give one message and one uuid, at any node; a replay says so in a header."""
    first = http.simulate_post("/facade", json={"msg": "once"}, headers={"Idempotency-Key": "k-1"})
    system.transport.kill(NODES[0])
    repeated = http.simulate_post("/facade", json={"msg": "once"}, headers={"Idempotency-Key": '"k-1"'})
    other = http.simulate_post("/facade", json={"msg": "once"}, headers={"Idempotency-Key": "k-2"})

    assert (200, None) == (first.status_code, first.headers.get("idempotent-replayed"))
    assert (200, "true", first.json) == (repeated.status_code, repeated.headers["idempotent-replayed"], repeated.json)
    assert first.json["uuid"] != other.json["uuid"]
    assert ["once", "once"] == http.simulate_get("/facade").json["logs"]


def test_a_key_that_was_used_for_another_text_is_refused(http: testing.TestClient) -> None:
    """A key belongs to one text; the second text is not stored."""
    http.simulate_post("/facade", json={"msg": "one"}, headers={"Idempotency-Key": "k"})
    refused = http.simulate_post("/facade", json={"msg": "two"}, headers={"Idempotency-Key": "k"})

    assert (422, "application/problem+json") == (refused.status_code, refused.headers["content-type"])
    assert "the idempotency key was sent with another message before" == refused.json["message"]
    assert ["one"] == http.simulate_get("/facade").json["logs"]


def test_a_retry_of_the_facade_is_no_replay(system: MemorySystem, http: testing.TestClient) -> None:
    """If a node stores the message and does not answer, the retry at the next node is still the client's first post."""
    system.transport.cut(NODES[0])
    posted = http.simulate_post("/facade", json={"msg": "once"}, headers={"Idempotency-Key": "k"})

    assert (200, None) == (posted.status_code, posted.headers.get("idempotent-replayed"))
    assert ["once"] == http.simulate_get("/facade").json["logs"]


@pytest.mark.parametrize("key", ["", '""', "two words", "x" * 256, "\u00e9"])
def test_an_invalid_key_is_refused(http: testing.TestClient, key: str) -> None:
    """An empty key, a long one, or one with other characters is a 400 that names the header and the limit."""
    refused = http.simulate_post("/facade", json={"msg": "a"}, headers={"Idempotency-Key": key})

    assert (400, "Idempotency-Key must be 1 to 255 visible ASCII characters") == (
        refused.status_code,
        refused.json["message"],
    )


def test_an_empty_log_is_an_empty_list(http: testing.TestClient) -> None:
    """Without messages the list is empty."""
    assert '{"logs":[],"message":"not implemented yet"}' == http.simulate_get("/facade").text


def test_head_is_get_without_the_body(http: testing.TestClient) -> None:
    """HEAD works where GET does."""
    response = http.simulate_head("/facade")

    assert (200, "") == (response.status_code, response.text)


@pytest.mark.parametrize("count", [PAGE_MESSAGES - 1, PAGE_MESSAGES, PAGE_MESSAGES + 1, 3 * PAGE_MESSAGES + 7])
def test_a_long_log_is_read_page_by_page_whole_and_in_order(
    system: MemorySystem, http: testing.TestClient, count: int
) -> None:
    """The JSON is complete for any number of messages, also at the edges of a page."""
    entries = store_messages(system, count)

    assert [entry.msg for entry in entries] == http.simulate_get("/facade").json["logs"]


def test_a_node_that_dies_during_a_read_is_replaced_for_the_next_page() -> None:
    """A stream survives the death of the node that it reads from."""
    system = dying_system(NODES[0])
    entries = store_messages(system, 2 * PAGE_MESSAGES)

    assert [entry.msg for entry in entries] == system.http().simulate_get("/facade").json["logs"]
    assert NODES[1] in system.attempts()


def test_the_connection_breaks_when_all_nodes_die_during_a_read() -> None:
    """A response that cannot be finished must not look complete."""
    system = dying_system(*NODES)
    store_messages(system, 2 * PAGE_MESSAGES)

    with pytest.raises(ConnectionAbortedError):
        system.http().simulate_get("/facade")


def test_without_the_messages_service_the_log_is_still_read(system: MemorySystem, http: testing.TestClient) -> None:
    """The log is complete, and the text of the other service says that it is not available."""
    system.transport.kill(MESSAGES)

    assert {"logs": [], "message": "messages-service is not available"} == http.simulate_get("/facade").json


def test_one_message_is_created_and_found(http: testing.TestClient) -> None:
    """A POST is 201 with the location of the message; GET and HEAD find it there, to be cached for ever."""
    posted = http.simulate_post("/v1/messages", json={"msg": "hi"})
    found = http.simulate_get(posted.headers["location"])

    assert (201, NODES[0]) == (posted.status_code, posted.headers["x-logging-node"])
    assert f"/v1/messages/{posted.json['id']}" == posted.headers["location"]
    assert (200, {**posted.json, "msg": "hi", "node": NODES[0]}) == (found.status_code, found.json)
    assert "immutable" in found.headers["cache-control"]
    assert "Z" == posted.json["time"][-1]
    assert 200 == http.simulate_head(posted.headers["location"]).status_code
    assert {"logs": ["hi"], "message": "not implemented yet"} == http.simulate_get("/facade").json


def test_plain_text_is_one_message(http: testing.TestClient) -> None:
    """A body of plain text is one message, without the newline at its end that `echo` adds."""
    for sent in ("disk full on é\n", "two\nlines\r\n", "x"):
        assert 201 == http.simulate_post("/v1/messages", body=sent.encode(), content_type="text/plain").status_code

    assert ["disk full on é", "two\nlines", "x"] == http.simulate_get("/facade").json["logs"]


def test_a_message_with_the_same_key_is_stored_once(http: testing.TestClient) -> None:
    """Idempotency keys work as for `/facade`; a batch may have none."""
    headers = {"Idempotency-Key": "k"}
    first, repeated = (http.simulate_post("/v1/messages", json={"msg": "a"}, headers=headers) for _ in range(2))
    many = http.simulate_post("/v1/messages", json=[{"msg": "a"}], headers=headers)

    assert first.json == repeated.json
    assert (None, "true") == (first.headers.get("idempotent-replayed"), repeated.headers["idempotent-replayed"])
    assert 400 == many.status_code
    assert many.json["message"].startswith("Idempotency-Key belongs to one message; give each message of a batch a key")


def test_the_links_of_pages_lead_through_the_whole_log(system: MemorySystem, http: testing.TestClient) -> None:
    """The links lead from either end to every message, once."""
    entries = store_messages(system, 25)
    for order in ("asc", "desc"):
        found, link = [], f"/v1/messages?limit=10&order={order}"
        while link:
            page = http.simulate_get(link)
            found += page.json["messages"]
            link = next_link(page)
        assert [as_json(entry) for entry in (entries if order == "asc" else entries[::-1])] == found


def next_link(page: testing.Result) -> str:
    """The target of the header Link, "" on the last page."""
    link = page.headers.get("link", "")
    assert bool(link) == bool(page.json["next"])
    return link.partition(">")[0].removeprefix("<")


def test_a_time_range_is_read(system: MemorySystem, http: testing.TestClient) -> None:
    """`from` is inclusive and `to` is exclusive, in either order."""
    entries = [Entry(ids.first_id(1_795_507_200_000 + 1_000 * number), str(number)) for number in range(5)]
    system.store(entries)
    params = {"from": "2026-11-24T08:00:01Z", "to": "2026-11-24T08:00:03Z"}

    for order, expected in (("asc", ["1", "2"]), ("desc", ["2", "1"])):
        found = http.simulate_get("/v1/messages", params={**params, "order": order}).json["messages"]
        assert expected == [one["msg"] for one in found]


def test_the_whole_log_is_streamed_as_lines(
    system: MemorySystem, http: testing.TestClient, streams: StreamSemaphore
) -> None:
    """There is one JSON object per line, page after page, from either end; each stream is released at its end."""
    entries = store_messages(system, 2_345)
    headers = {"Accept": "application/x-ndjson"}
    for order, expected in (("asc", entries), ("desc", entries[::-1])):
        streamed = http.simulate_get(f"/v1/messages?order={order}", headers=headers)
        assert (200, "application/x-ndjson") == (streamed.status_code, streamed.headers["content-type"])
        assert [as_json(entry) for entry in expected] == [json.loads(line) for line in streamed.text.splitlines()]
    rest = http.simulate_get(f"/v1/messages?after={entries[-2].id}", headers=headers)
    assert [as_json(entries[-1])] == [json.loads(line) for line in rest.text.splitlines()]
    assert streams.acquire()
    assert streams.acquire()


def test_the_number_of_streams_is_limited(http: testing.TestClient, streams: StreamSemaphore) -> None:
    """One more stream of lines or events is 503; a page is no stream."""
    assert streams.acquire()
    assert streams.acquire()
    for accept in ("application/x-ndjson", "text/event-stream"):
        refused = http.simulate_get("/v1/messages", headers={"Accept": accept})
        assert (503, "1") == (refused.status_code, refused.headers["retry-after"])
        assert "2 streams are open, which is the limit" == refused.json["message"]
        assert 200 == http.simulate_head("/v1/messages", headers={"Accept": accept}).status_code
    assert 200 == http.simulate_get("/v1/messages").status_code


def test_a_message_is_missing_if_a_listed_node_does_not_have_it(system: MemorySystem, http: testing.TestClient) -> None:
    """One node is asked, because each has every acknowledged message; if none answers it is 503, not a false 404."""
    store_messages(system, 3)
    missing = http.simulate_get(f"/v1/messages/{UNKNOWN_ID[:-1]}7")
    readers = [address for address, request in system.transport.called if isinstance(request, Read)]

    assert (404, f"there is no message {UNKNOWN_ID[:-1]}7") == (missing.status_code, missing.json["message"])
    assert [NODES[0]] == readers
    for node in NODES:
        system.transport.kill(node)
    assert 503 == http.simulate_get(f"/v1/messages/{UNKNOWN_ID}").status_code


@pytest.mark.parametrize(
    ("path", "headers", "message"),
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
def test_an_invalid_parameter_is_refused(
    http: testing.TestClient, path: str, headers: dict[str, str], message: str
) -> None:
    """The response is 400 and names the parameter."""
    response = http.simulate_get(path, headers=headers)

    assert 400 == response.status_code
    assert message in response.json["message"]


def test_a_body_of_another_media_type_is_refused(http: testing.TestClient) -> None:
    """A form, which curl sends by default, is answered with the media types that are accepted."""
    response = http.simulate_post("/v1/messages", body="msg=a", content_type="application/x-www-form-urlencoded")

    assert 415 == response.status_code
    assert "must be application/json or application/x-ndjson or text/plain" in response.json["message"]


@pytest.mark.parametrize(
    ("path", "accept"),
    [("/facade", "*/*"), ("/v1/messages", "application/x-ndjson"), ("/v1/messages", "text/event-stream")],
)
def test_head_of_a_stream_announces_no_length(http: testing.TestClient, path: str, accept: str) -> None:
    """The length of what GET streams is not known; 0 would be wrong."""
    response = http.simulate_head(path, headers={"Accept": accept})

    assert 200 == response.status_code
    assert "content-length" not in response.headers


def test_a_proxy_is_told_not_to_hold_events_back(http: testing.TestClient) -> None:
    """Nginx buffers a response unless X-Accel-Buffering says no."""
    response = http.simulate_head("/v1/messages", headers={"Accept": "text/event-stream"})

    assert "no" == response.headers["x-accel-buffering"]


def test_curl_without_a_content_type_reads_what_to_add(http: testing.TestClient) -> None:
    """`curl -d text` sends a form; the answer names the options that work."""
    response = http.simulate_post("/v1/messages", body="text", content_type="application/x-www-form-urlencoded")

    assert 415 == response.status_code
    assert """with curl: --json '{"msg":"..."}' or -H 'Content-Type: text/plain'""" in response.json["detail"]


FIELDS = {"level": "Error", "n": 5, "load": 0.5, "on": True, "é": "\u2028"}


def test_fields_are_returned_wherever_the_message_is(http: testing.TestClient) -> None:
    """In a page, by id, and in lines; GET /facade has the text only."""
    posted = http.simulate_post("/v1/messages", json={"msg": "a", "fields": FIELDS})
    lines = http.simulate_get("/v1/messages", headers={"Accept": "application/x-ndjson"})

    assert 201 == posted.status_code
    assert FIELDS == http.simulate_get(posted.headers["location"]).json["fields"]
    assert FIELDS == http.simulate_get("/v1/messages").json["messages"][0]["fields"]
    assert FIELDS == json.loads(lines.text)["fields"]
    assert ["a"] == http.simulate_get("/facade").json["logs"]


def test_another_member_is_refused_and_facade_ignores_it(http: testing.TestClient) -> None:
    """Nothing is dropped in silence, but where the first version did."""
    refused = http.simulate_post("/v1/messages", json={"msg": "a", "level": "error"})

    assert 400 == refused.status_code
    assert "a message has no member 'level'" in refused.json["detail"]
    assert 200 == http.simulate_post("/facade", json={"msg": "a", "level": "error"}).status_code


def test_pages_and_lines_can_be_searched(http: testing.TestClient) -> None:
    """With bounds, an order and a cursor, which keeps the search."""
    for number in range(10):
        http.simulate_post("/v1/messages", json={"msg": f"Disk {number}", "fields": {"even": number % 2 == 0}})
    page = http.simulate_get("/v1/messages?contains=DISK&field.even=true&limit=3&order=desc")
    rest = http.simulate_get(next_link(page))
    lines = http.simulate_get("/v1/messages?field.even=false", headers={"Accept": "application/x-ndjson"})

    assert ["Disk 8", "Disk 6", "Disk 4"] == [one["msg"] for one in page.json["messages"]]
    assert ["Disk 2", "Disk 0"] == [one["msg"] for one in rest.json["messages"]]
    assert ["1", "3", "5", "7", "9"] == [json.loads(line)["msg"][-1] for line in lines.text.splitlines()]
    assert [] == http.simulate_get("/v1/messages?contains=tape").json["messages"]


@pytest.mark.parametrize(
    ("query", "reason"),
    [
        ("field.=x", "field.NAME needs a name of 1 to 128 characters"),
        (f"contains={'x' * 1_001}", "a text to search for has at most 1000 characters"),
        ("&".join(f"field.f{number}=x" for number in range(17)), "17 fields are compared, over the limit of 16"),
        ("contains=a&contains=b", "contains is given 2 times"),
    ],
)
def test_a_search_out_of_bounds_is_refused(http: testing.TestClient, query: str, reason: str) -> None:
    """The error names the parameter and the limit."""
    response = http.simulate_get(f"/v1/messages?{query}")

    assert (400, reason) == (response.status_code, response.json["detail"])


def test_records_of_a_shipper_are_stored(http: testing.TestClient) -> None:
    """With their own time; a record that is not valid is an error of its own."""
    records = [
        {"log": "old", "date": 1_795_507_200.5, "k": {"pod": "p"}},
        {"log": "new"},
        {"log": "late", "date": "9999-01-01T00:00:00Z"},
    ]
    posted = http.simulate_post("/v1/messages?msg_field=log&time_field=date", json=records)
    old, new = http.simulate_get("/v1/messages").json["messages"]

    assert 400 == posted.status_code
    assert [None, None, 2] == [one.get("index") for one in posted.json["results"]]
    assert ("old", "2026-11-24T08:00:00.500Z", {"k.pod": "p"}) == (old["msg"], old["time"], old["fields"])
    assert "new" == new["msg"]


@pytest.mark.parametrize(
    ("query", "reason"),
    [
        ("time_field=date", "msg_field must name the member of each record that has its text"),
        ("msg_feld=log", "there is no parameter 'msg_feld'; known: msg_field, time_field"),
    ],
)
def test_a_wrong_parameter_of_a_post_is_refused(http: testing.TestClient, query: str, reason: str) -> None:
    """Otherwise the fields of all records would be lost."""
    response = http.simulate_post(f"/v1/messages?{query}", json={"log": "a"})

    assert (400, reason) == (response.status_code, response.json["detail"])
