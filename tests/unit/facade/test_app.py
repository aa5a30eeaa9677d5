"""Tests of facade.api.app: HTTP over the in-memory system."""

import json
from collections.abc import Callable

import pytest
from falcon import testing
from structlog.typing import EventDict

from common.errors import ThreefoldError
from common.protocol.codec import Reply
from common.protocol.messages import PAGE_MESSAGES, Entry, Read
from facade.api import problem
from tests.support.facade import MESSAGES, NODES, OTHER_REGISTRY, REGISTRY, World
from tests.support.memory_node import MemoryNode


@pytest.fixture
def world() -> World:
    """A whole system in memory."""
    return World()


@pytest.fixture
def http(world: World) -> testing.TestClient:
    """HTTP in front of it."""
    return world.http()


def test_a_message_is_posted_and_read_to_the_letter(http: testing.TestClient) -> None:
    """The replies are those that clients of today parse."""
    posted = http.simulate_post("/facade", json={"msg": "hi"})
    read = http.simulate_get("/facade")

    assert (200, "application/json") == (posted.status_code, posted.headers["content-type"])
    assert '{"status":"success","uuid":"' + posted.json["uuid"] + '"}' == posted.text
    assert NODES[0] == posted.headers["x-logging-node"]
    assert (200, "application/json") == (read.status_code, read.headers["content-type"])
    assert '{"logs":["hi"],"message":"not implemented yet"}' == read.text


def test_a_key_makes_a_repeated_post_the_same_post(world: World, http: testing.TestClient) -> None:
    """Same key and text: one message, the same uuid, and the reply says that it is a replay, from whichever node."""
    first = http.simulate_post("/facade", json={"msg": "once"}, headers={"Idempotency-Key": "k-1"})
    world.transport.kill(NODES[0])
    again = http.simulate_post("/facade", json={"msg": "once"}, headers={"Idempotency-Key": '"k-1"'})
    other = http.simulate_post("/facade", json={"msg": "once"}, headers={"Idempotency-Key": "k-2"})

    assert (200, None) == (first.status_code, first.headers.get("idempotent-replayed"))
    assert (200, "true", first.json) == (again.status_code, again.headers["idempotent-replayed"], again.json)
    assert first.json["uuid"] != other.json["uuid"]
    assert ["once", "once"] == http.simulate_get("/facade").json["logs"]


def test_a_key_with_another_text_is_422(http: testing.TestClient) -> None:
    """A key belongs to one text; nothing is stored under it a second time."""
    http.simulate_post("/facade", json={"msg": "one"}, headers={"Idempotency-Key": "k"})
    refused = http.simulate_post("/facade", json={"msg": "two"}, headers={"Idempotency-Key": "k"})

    assert (422, "application/problem+json") == (refused.status_code, refused.headers["content-type"])
    assert "Idempotency-Key was sent with another message before" == refused.json["message"]
    assert ["one"] == http.simulate_get("/facade").json["logs"]


def test_a_retry_of_the_facade_is_no_replay(world: World, http: testing.TestClient) -> None:
    """A node that stored and vanished without a reply: the second attempt is still the client's first post."""
    world.transport.cut(NODES[0])
    posted = http.simulate_post("/facade", json={"msg": "once"}, headers={"Idempotency-Key": "k"})

    assert (200, None) == (posted.status_code, posted.headers.get("idempotent-replayed"))
    assert ["once"] == http.simulate_get("/facade").json["logs"]


@pytest.mark.parametrize("key", ["", '""', "two words", "x" * 256, "\u00e9"])
def test_a_key_that_is_none_is_refused(http: testing.TestClient, key: str) -> None:
    """An empty, long or odd key is a 400 that names the header and the limit."""
    refused = http.simulate_post("/facade", json={"msg": "a"}, headers={"Idempotency-Key": key})

    assert (400, "Idempotency-Key must be 1 to 255 visible ASCII characters") == (
        refused.status_code,
        refused.json["message"],
    )


def test_an_empty_log_is_an_empty_list(http: testing.TestClient) -> None:
    """Nothing stored is no error."""
    assert '{"logs":[],"message":"not implemented yet"}' == http.simulate_get("/facade").text


def test_head_is_get_without_the_body(http: testing.TestClient) -> None:
    """HEAD works where GET does."""
    answered = http.simulate_head("/facade")

    assert (200, "") == (answered.status_code, answered.text)


def fill(world: World, count: int) -> list[str]:
    """Texts in the order of their ids."""
    texts = [f'"{number}" é\n' for number in range(count)]
    world.store([Entry(f"01997c3e-1111-7000-8000-{number:012d}", text) for number, text in enumerate(texts)])
    return texts


class DyingNode(MemoryNode):
    """Answers one read, and then nothing more."""

    dies: Callable[[], None] = staticmethod(lambda: None)

    async def read(self, request: Read) -> Reply:
        """See MemoryNode."""
        self.dies()
        return await super().read(request)


def dying(*addresses: str) -> World:
    """A system in which all of these nodes die as soon as one of them has answered a read."""
    world = World(DyingNode)

    def die() -> None:
        for address in addresses:
            world.transport.kill(address)

    for address in addresses:
        node = world.nodes[address]
        assert isinstance(node, DyingNode)
        node.dies = die
    return world


@pytest.mark.parametrize("count", [PAGE_MESSAGES - 1, PAGE_MESSAGES, PAGE_MESSAGES + 1, 3 * PAGE_MESSAGES + 7])
def test_a_long_log_is_read_page_by_page_whole_and_in_order(world: World, http: testing.TestClient, count: int) -> None:
    """Whatever the count, also at the edges of a page, the JSON is whole."""
    texts = fill(world, count)

    assert texts == http.simulate_get("/facade").json["logs"]


def test_a_node_that_dies_in_the_middle_moves_the_next_page_to_another() -> None:
    """A stream survives the death of the node that it reads from."""
    world = dying(NODES[0])
    texts = fill(world, 2 * PAGE_MESSAGES)

    assert texts == world.http().simulate_get("/facade").json["logs"]
    assert NODES[1] in world.asked()


def test_all_nodes_dying_in_the_middle_break_the_connection() -> None:
    """A reply that cannot be finished must not look whole."""
    world = dying(*NODES)
    fill(world, 2 * PAGE_MESSAGES)

    with pytest.raises(ConnectionAbortedError):
        world.http().simulate_get("/facade")


def test_without_the_messages_service_the_log_is_still_read(world: World, http: testing.TestClient) -> None:
    """The text of a service beside the log does not cost the log."""
    world.transport.kill(MESSAGES)

    assert {"logs": [], "message": "messages-service is not available"} == http.simulate_get("/facade").json


def test_an_unknown_outcome_is_503_with_the_id(world: World, http: testing.TestClient) -> None:
    """The client learns that the message may be stored, under which id, and when to try again."""
    for node in NODES:
        world.transport.cut(node)
    answered = http.simulate_post("/facade", json={"msg": "a"})

    assert (503, "1") == (answered.status_code, answered.headers["retry-after"])
    assert "application/problem+json" == answered.headers["content-type"]
    assert {"type", "title", "status", "message", "uuid", "request_id", "traceparent"} == answered.json.keys()
    assert "may still be stored" in answered.json["message"]


def test_nothing_reachable_is_503_without_an_id(world: World, http: testing.TestClient) -> None:
    """What was certainly not stored has no id, for writes and reads alike."""
    for node in NODES:
        world.transport.kill(node)
    for answered in (http.simulate_post("/facade", json={"msg": "a"}), http.simulate_get("/facade")):
        assert (503, "1") == (answered.status_code, answered.headers["retry-after"])
        assert "uuid" not in answered.json
        assert "failure" == answered.json["status"]


@pytest.mark.parametrize(
    ("method", "path", "content_type", "sent", "status", "message"),
    [
        ("POST", "/facade", "application/json", b'{"msg": ""}', 400, "No message provided"),
        ("POST", "/facade", "application/json", b"nonsense", 400, "the body is not valid JSON"),
        ("POST", "/facade", "text/plain", b"hi", 415, "Content-Type must be application/json"),
        ("POST", "/facade", "application/json", b'{"msg": "' + b"x" * 70_000 + b'"}', 413, "over the limit of 65536"),
        ("PUT", "/facade", "application/json", b"{}", 405, "PUT is not allowed for /facade"),
        ("DELETE", "/facade", None, b"", 405, "DELETE is not allowed for /facade"),
        ("GET", "/nowhere", None, b"", 404, "there is nothing at /nowhere"),
        ("GET", "/facade/x", None, b"", 404, "there is nothing at /facade/x"),
    ],
)
def test_a_wrong_request_is_4xx_with_one_sentence(
    http: testing.TestClient, method: str, path: str, content_type: str | None, sent: bytes, status: int, message: str
) -> None:
    """Every error has the compatible members in a problem document."""
    headers = {"Content-Type": content_type} if content_type else {}
    answered = http.simulate_request(method, path, body=sent, headers=headers)

    assert (status, "application/problem+json") == (answered.status_code, answered.headers["content-type"])
    assert message in answered.json["message"]
    assert "failure" == answered.json["status"]
    assert status != 405 or {"GET", "HEAD", "POST"} <= set(answered.headers["allow"].split(", "))


def test_a_defect_is_500_without_details(world: World, logged: list[EventDict]) -> None:
    """A broken handler tells the log everything and the client nothing."""

    def broken() -> str:
        raise ZeroDivisionError("secret")

    http = world.http(new_id=broken)
    answered = http.simulate_post("/facade", json={"msg": "a"})

    assert (500, "internal error") == (answered.status_code, answered.json["message"])
    assert ["secret"] == [str(line["exc_info"]) for line in logged if line["log_level"] == "error"]
    assert "secret" not in answered.text


def test_every_error_that_a_client_can_see_has_its_status() -> None:
    """The table covers the leaves of the tree that the facade raises to clients."""
    assert {400, 401, 403, 404, 413, 415, 422, 429, 503} == set(problem.STATUS.values())
    assert all(issubclass(kind, ThreefoldError) for kind in problem.STATUS)


def test_health_tells_whether_it_lives_and_can_store(world: World) -> None:
    """Alive in any case; ready with any node, also when the registries are gone; not without one, nor when it stops."""
    draining: list[bool] = []

    def asked(path: str) -> testing.Result:
        return world.http(draining=lambda: bool(draining)).simulate_get(path)  # one that has not asked before

    ready = asked("/readyz?verbose")
    assert (200, dict.fromkeys(NODES, "ready")) == (ready.status_code, ready.json["logging_nodes"])
    assert {"status": "ready"} == asked("/readyz").json
    for address in (*NODES[:2], REGISTRY, OTHER_REGISTRY):
        world.transport.kill(address)
    one_left = asked("/readyz?verbose")
    assert (200, "ready") == (one_left.status_code, one_left.json["logging_nodes"][NODES[2]])
    assert "ready" not in [one_left.json["logging_nodes"][address] for address in NODES[:2]]
    draining.append(True)
    stopping = asked("/readyz")
    assert (503, "this facade is stopping", "1") == (
        stopping.status_code,
        stopping.json["message"],
        stopping.headers["retry-after"],
    )
    draining.clear()
    world.transport.kill(NODES[2])
    assert 503 == asked("/readyz").status_code
    assert (200, {"status": "alive"}) == ((alive := asked("/livez")).status_code, alive.json)


def test_readiness_is_asked_for_once_in_a_while_and_a_stop_told_at_once(world: World) -> None:
    """Anybody may ask for it: many who do cost the nodes no more than one."""
    draining: list[bool] = []
    http = world.http(draining=lambda: bool(draining))
    for _ in range(20):
        assert 200 == http.simulate_get("/readyz").status_code

    assert len(world.asked()) < 20
    draining.append(True)
    assert 503 == http.simulate_get("/readyz").status_code


def test_every_answer_has_headers_that_keep_browsers_careful(http: testing.TestClient) -> None:
    """Also that of an error; and the limits are told."""
    for answered in (http.simulate_get("/facade"), http.simulate_get("/none"), http.simulate_get("/v1/limits")):
        assert ("nosniff", "default-src 'none'; frame-ancestors 'none'") == (
            answered.headers["x-content-type-options"],
            answered.headers["content-security-policy"],
        )
    limits = http.simulate_get("/v1/limits").json
    assert (65_536, 10_485_760, 10_000, 5.0) == tuple(
        limits[name] for name in ("message_bytes", "batch_bytes", "batch_messages", "receive_s")
    )


def test_registry_gone_from_the_start_is_503(world: World, http: testing.TestClient) -> None:
    """Without any answer of the registry the service is unavailable, and it says so."""
    world.transport.kill(REGISTRY)
    world.transport.kill(OTHER_REGISTRY)
    answered = http.simulate_get("/facade")

    assert 503 == answered.status_code
    assert "no registry answers" in json.loads(answered.text)["message"]
