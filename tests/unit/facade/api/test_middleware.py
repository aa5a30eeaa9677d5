"""Tests of facade.api.middleware: request context, permission, timing, and the form of errors, over HTTP."""

import json
from pathlib import Path

import pytest
from falcon import testing
from structlog.typing import EventDict

from facade.api.content.entries import EntryMaker
from facade.auth.access import Access
from facade.auth.tokens import Scope, Token, Tokens, digest_of
from scripts import tokens
from tests.support.facade import NODES, OTHER_REGISTRY, REGISTRY, MemorySystem

TRACE, SPAN = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """A file with a token that may only read."""
    made = tmp_path / "tokens.toml"
    tokens.write(made, [Token("reader", (Scope.READ,), digest_of("reader"))])
    return made


def test_responses_problems_and_log_lines_name_their_request(http: testing.TestClient, logged: list[EventDict]) -> None:
    """The response, a problem document, and the log lines of facade and node have the request id and the trace."""
    headers = {"X-Request-ID": "order-7", "traceparent": f"00-{TRACE}-{SPAN}-01"}
    stored = http.simulate_post("/facade", json={"msg": "a"}, headers=headers)
    wrong = http.simulate_post("/facade", json={"msg": 5}, headers=headers)

    assert ["order-7", "order-7"] == [response.headers["x-request-id"] for response in (stored, wrong)]
    assert "order-7" == wrong.json["request_id"]
    assert wrong.json["traceparent"].startswith(f"00-{TRACE}-")
    assert ["order-7"] in [line.get("request_ids") for line in logged]


def test_every_response_says_where_its_time_went(system: MemorySystem, http: testing.TestClient) -> None:
    """Server-Timing has the time for the queue, the registry, the nodes and the journal, also for an error."""
    replies = [
        http.simulate_post("/facade", json={"msg": "a"}),
        http.simulate_get("/facade"),
        http.simulate_get("/v1/messages"),
        http.simulate_get("/nowhere"),
    ]
    for node in NODES:
        system.transport.kill(node)
    replies.append(http.simulate_post("/v1/messages", json={"msg": "a"}))

    for reply in replies:
        parts = dict(part.split(";dur=") for part in reply.headers["server-timing"].split(", "))
        assert ["queue", "registry", "node", "store"] == list(parts)
        assert all(float(spent) >= 0 for spent in parts.values())
    assert 0 < float(parts["node"])  # all of them were tried
    parts = dict(part.split(";dur=") for part in replies[0].headers["server-timing"].split(", "))
    assert 0 <= float(parts["store"]) < float(parts["node"])
    assert 0 < float(parts["registry"])


def test_a_write_with_an_unknown_outcome_is_503_with_the_message_id(
    system: MemorySystem, http: testing.TestClient
) -> None:
    """The client learns that the message may be stored, under which id, and when to retry."""
    for node in NODES:
        system.transport.cut(node)
    response = http.simulate_post("/facade", json={"msg": "a"})

    assert (503, "1") == (response.status_code, response.headers["retry-after"])
    assert "application/problem+json" == response.headers["content-type"]
    assert {"type", "title", "status", "message", "uuid", "request_id", "traceparent"} == response.json.keys()
    assert "may still be stored" in response.json["message"]


def test_a_request_that_no_node_got_is_503_without_an_id(system: MemorySystem, http: testing.TestClient) -> None:
    """A message that is certainly not stored has no id; a read fails in the same form."""
    for node in NODES:
        system.transport.kill(node)
    for response in (http.simulate_post("/facade", json={"msg": "a"}), http.simulate_get("/facade")):
        assert (503, "1") == (response.status_code, response.headers["retry-after"])
        assert "uuid" not in response.json
        assert "failure" == response.json["status"]


def test_without_any_registry_the_service_is_unavailable(system: MemorySystem, http: testing.TestClient) -> None:
    """If no registry has ever answered, the response is 503 and says so."""
    system.transport.kill(REGISTRY)
    system.transport.kill(OTHER_REGISTRY)
    response = http.simulate_get("/facade")

    assert 503 == response.status_code
    assert "no registry answers" in json.loads(response.text)["message"]


def test_a_defect_is_500_without_details(system: MemorySystem, logged: list[EventDict]) -> None:
    """An unexpected exception is logged with its details; the client gets none of them."""

    def broken() -> str:
        raise ZeroDivisionError("secret")

    http = system.http(maker=EntryMaker(broken))
    response = http.simulate_post("/facade", json={"msg": "a"})

    assert (500, "internal error") == (response.status_code, response.json["message"])
    assert ["secret"] == [str(line["exc_info"]) for line in logged if line["log_level"] == "error"]
    assert "secret" not in response.text


@pytest.mark.parametrize(
    ("header", "status", "challenge"),
    [
        (None, 401, 'Bearer realm="threefold"'),
        ("Bearer reader", 403, 'Bearer realm="threefold", error="insufficient_scope"'),
    ],
)
def test_a_request_without_permission_is_refused_with_a_challenge(
    system: MemorySystem, file: Path, header: str | None, status: int, challenge: str
) -> None:
    """WWW-Authenticate is that of RFC 6750; nothing is stored, and the response does not repeat the token."""
    http = system.http(access=Access(Tokens(file)))
    response = http.simulate_post("/facade", json={"msg": "a"}, headers={"Authorization": header} if header else {})

    assert (status, challenge) == (response.status_code, response.headers["www-authenticate"])
    assert {"status": "failure"}.items() <= response.json.items()
    assert [] == system.attempts()
    assert header is None or "Bearer" not in response.json["message"]


def test_a_client_over_its_rate_is_refused_with_the_seconds_to_wait(system: MemorySystem) -> None:
    """The response is 429, with Retry-After."""
    http = system.http(access=Access(None, "1/minute"))
    assert 200 == http.simulate_post("/facade", json={"msg": "a"}).status_code
    response = http.simulate_post("/facade", json={"msg": "a"})

    assert 429 == response.status_code
    assert 1 <= int(response.headers["retry-after"]) <= 60
    assert "1 per 1 minute" in response.json["message"]


def test_idempotency_keys_of_two_tokens_are_different_keys(system: MemorySystem, tmp_path: Path) -> None:
    """Two clients that happen to use one key do not share a message."""
    made = tmp_path / "tokens.toml"
    tokens.write(made, [Token(name, (Scope.WRITE,), digest_of(name)) for name in ("one", "two")])
    http = system.http(access=Access(Tokens(made)))

    def posted(token: str, key: str) -> tuple[str, str | None]:
        headers = {"Authorization": f"Bearer {token}", "Idempotency-Key": key}
        response = http.simulate_post("/facade", json={"msg": "a"}, headers=headers)
        return response.json["uuid"], response.headers.get("idempotent-replayed")

    first, other, again = posted("one", "k"), posted("two", "k"), posted("one", "k")

    assert (None, None, "true") == (first[1], other[1], again[1])
    assert first[0] == again[0] != other[0]
