"""Tests of scripts.client.facades, and of what the client does when facades come and go."""

import json
import socket
import ssl
import subprocess
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from common.hostport import split
from scripts.client.api import Api
from scripts.client.facades import ApiError, Facades, parse
from scripts.launcher.ports import free_addresses
from tests.support.servers import Serve, respond

NOBODY = "http://127.0.0.1:9"
STORED = {"id": "01a20c21-40b9-743e-8cff-65c316df4a96", "time": "2026-11-24T08:00:00.000Z"}


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("http://a:1", (False, "a:1")),
        ("https://a", (True, "a:443")),
        ("a:5000", (False, "a:5000")),
        ("http://a", (False, "a:80")),
        ("http://[::1]:5000/facade", (False, "[::1]:5000")),
    ],
)
def test_a_url_names_a_facade(url: str, expected: tuple[bool, str]) -> None:
    """The scheme and the port have defaults, and the path of the first version is ignored."""
    assert expected == parse(url)


@pytest.mark.parametrize(
    "url", ["ftp://a", "http://", "http://a:99999", "http://a:0", "http://[::1", "http://a/x", "https://:1"]
)
def test_another_url_is_refused(url: str) -> None:
    """The error shows the form."""
    with pytest.raises(ApiError, match="--url must be http://HOST:PORT or https://HOST:PORT, not "):
        parse(url)


def test_a_facade_that_cannot_be_reached_is_passed_over(serve: Serve) -> None:
    """Nothing was sent to it, so also a post goes to the next one, and later requests begin there."""
    address = serve(lambda _environ, start: respond(start, "200 OK", json.dumps({"results": [STORED]}).encode()))
    with closing(Api([NOBODY, f"http://{address}"])) as api:
        assert [STORED] == api.send([b"text"])
    with closing(Facades([NOBODY, f"http://{address}"])) as facades:
        facades.call("GET", "/v1/messages", None, {}, repeatable=True)
        assert address == facades.address


def test_a_stream_passes_over_a_facade_that_cannot_be_reached(serve: Serve) -> None:
    """So does `read --all`."""
    address = serve(lambda _environ, start: respond(start, "200 OK", json.dumps(STORED).encode() + b"\n"))
    with closing(Api([NOBODY, f"http://{address}"])) as api:
        assert [STORED] == list(api.everything({}))
    with closing(Api([NOBODY, NOBODY])) as api, pytest.raises(ApiError, match="refused"):
        list(api.everything({}))


class Flaky:
    """A WSGI application whose first answers are given, and which then stores each key once.

    Attributes:
        keys: the keys of each request.
        stored: the texts that were stored.
    """

    def __init__(self, *statuses: str) -> None:
        self._statuses = list(statuses)
        self.keys: list[list[str]] = []
        self.stored: dict[str, str] = {}

    def __call__(self, environ: dict[str, Any], start_response: Callable[..., Any]) -> list[bytes]:
        """Answer a request."""
        lines = [json.loads(line) for line in environ["wsgi.input"].read().splitlines()]
        self.keys.append([line["key"] for line in lines])
        for line in lines:
            self.stored.setdefault(line["key"], line["msg"])
        if self._statuses:
            return respond(start_response, self._statuses.pop(0), b'{"detail": "later", "message": "later"}')
        return respond(start_response, "200 OK", json.dumps({"results": [STORED] * len(lines)}).encode())


def test_send_tries_again_with_the_same_key(serve: Serve) -> None:
    """The outcome of a failed attempt is unknown, so only a key keeps the message from being stored twice."""
    flaky, slept = Flaky("503 Service Unavailable", "502 Bad Gateway"), list[float]()
    with closing(Api(f"http://{serve(flaky)}", pause_s=0.5, sleep=slept.append)) as api:
        assert [STORED, STORED] == api.send([b"one", b"two"], retry_s=60.0)

    assert flaky.keys[0] == flaky.keys[1] == flaky.keys[2]
    assert 2 == len(set(flaky.keys[0]))
    assert ["one", "two"] == list(flaky.stored.values())
    assert [0.5, 1.0] == slept


def test_a_refused_request_is_not_sent_again(serve: Serve) -> None:
    """A 4xx is final."""
    flaky = Flaky("413 Content Too Large")
    with closing(Api(f"http://{serve(flaky)}")) as api, pytest.raises(ApiError, match="413: later"):
        api.send([b"one", b"two"], retry_s=60.0)
    assert 1 == len(flaky.keys)


def test_send_gives_up_after_the_given_time() -> None:
    """The error has the reason of the last attempt, and how long it took."""
    times = iter(range(100))
    api = Api(NOBODY, pause_s=0.5, sleep=lambda _seconds: None, clock=lambda: float(next(times)))
    with pytest.raises(ApiError, match=r"127.0.0.1:9: .*refused.* \(after 3 s of attempts\)"):
        api.send([b"text"], retry_s=3.0)


def test_a_facade_that_starts_late_is_waited_for(serve: Serve) -> None:
    """It cannot be reached at first."""
    (address,) = free_addresses(1)
    behind = serve(Flaky())
    with ExitStack() as stack:
        start = partial(stack.enter_context, forwarding(address, behind))  # when the client pauses for the first time
        api = stack.enter_context(closing(Api(f"http://{address}", sleep=lambda _seconds: start())))
        assert [STORED] == api.send([b"text"], retry_s=60.0)


@contextmanager
def forwarding(address: str, behind: str, context: ssl.SSLContext | None = None) -> Iterator[None]:
    """Forward one connection at an address to another one; with a context, it speaks TLS."""
    listening = socket.create_server(split(address))

    def forward() -> None:
        connection, _ = listening.accept()
        with (
            context.wrap_socket(connection, server_side=True) if context else connection as client,
            socket.create_connection(split(behind)) as server,
        ):
            for source, target in ((client, server), (server, client)):
                source.settimeout(0.3)  # a request, or its answer, is complete when nothing follows
                with suppress(TimeoutError):
                    while part := source.recv(65_536):
                        target.sendall(part)

    thread = threading.Thread(target=forward)
    thread.start()
    try:
        yield
    finally:
        thread.join(10.0)
        listening.close()


@pytest.mark.needs("openssl")
def test_https_checks_the_certificate(serve: Serve, tmp_path: Path) -> None:
    """A certificate of an authority in `--ca-file` is accepted; without it, the connection is refused."""
    certificate, key = tmp_path / "certificate.pem", tmp_path / "key.pem"
    subject = ("-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1")
    files = ("-keyout", str(key), "-out", str(certificate))
    command = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", *subject, *files]
    subprocess.run(command, check=True, capture_output=True, timeout=60)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    behind = serve(lambda _environ, start: respond(start, "200 OK", json.dumps({"results": [STORED]}).encode()))
    (address,) = free_addresses(1)
    with forwarding(address, behind, context), closing(Api(f"https://{address}", ca_file=certificate)) as api:
        assert [STORED] == api.send([b"text"])
    with pytest.raises(ApiError, match="has no certificates"):
        Api(f"https://{address}", ca_file=tmp_path / "missing.pem")
