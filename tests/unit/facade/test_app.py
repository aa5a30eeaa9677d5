"""Tests of facade.app: what holds for every route of the application."""

import pytest
from falcon import testing


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
        ("GET", "/v1/messages/", None, b"", 404, "there is nothing at /v1/messages/: the path ends without a slash"),
        ("POST", "/v1/messages/", "application/json", b"{}", 404, "the path ends without a slash"),
        ("GET", "/v1/mesages", None, b"", 404, "there is nothing at /v1/mesages; did you mean /v1/messages?"),
        ("GET", "/facade/x", None, b"", 404, "there is nothing at /facade/x"),
    ],
)
def test_an_invalid_request_is_refused_with_one_sentence(
    http: testing.TestClient, method: str, path: str, content_type: str | None, sent: bytes, status: int, message: str
) -> None:
    """A request that is not valid gets a problem document whose message says in one sentence what is wrong."""
    headers = {"Content-Type": content_type} if content_type else {}
    response = http.simulate_request(method, path, body=sent, headers=headers)

    assert (status, "application/problem+json") == (response.status_code, response.headers["content-type"])
    assert message in response.json["message"]
    assert ("failure" if path == "/facade" else status) == response.json["status"]
    assert status != 405 or {"GET", "HEAD", "POST"} <= set(response.headers["allow"].split(", "))


@pytest.mark.parametrize("path", ["/facade", "/nowhere", "/v1/limits"])
def test_every_response_has_the_security_headers(http: testing.TestClient, path: str) -> None:
    """Browsers neither guess a media type nor run anything, also for an error."""
    response = http.simulate_get(path)

    assert ("nosniff", "default-src 'none'; frame-ancestors 'none'") == (
        response.headers["x-content-type-options"],
        response.headers["content-security-policy"],
    )
