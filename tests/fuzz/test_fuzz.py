"""Tests by fuzzing, a short form of `make fuzz`; and that it would tell what is broken."""

import socketserver
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import msgspec
import pytest
import zmq
from hypothesis import given, settings
from structlog.typing import EventDict
from waitress.parser import HTTPRequestParser, ParsingError

from common.protocol import codec
from common.protocol.messages import Ping, State, Status
from scripts.launcher.cluster import Cluster
from tests.fuzz import corpus, run
from tests.fuzz.frames import coverage_guided, frame_phase, frames
from tests.fuzz.http import http_phase, second_opinion
from tests.fuzz.http.schema_requests import http_requests
from tests.fuzz.watched import Held, grown
from tests.support.servers import serving

SEED = 1
PLAN = run.Plan(seed=SEED, http=1_500, read=5_000, frames=5_000, decoded=5_000, coverage_s=0, examples=200)
HANG_S = 0.3  # for servers that are made to hang
REQUEST = b"GET /livez HTTP/1.1\r\nHost: x\r\n\r\n"
PING = codec.encode(Ping())
PONG = codec.encode(Status(service="x", state=State.READY))
FINE = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"


@given(frames.frames())
@settings(deadline=None)
def test_any_frame_is_a_message_or_one_error(frame: bytes) -> None:
    """What decodes survives its own frame; everything else raises InvalidMessageError."""
    frame_phase.check(frame)


@given(frames.valid_frames())
@settings(deadline=None)
def test_the_strategies_make_messages(frame: bytes) -> None:
    """What is made of the types of messages is decoded: the other tests begin with something that gets far."""
    assert frame_phase.check(frame)


def test_a_cluster_survives_what_nobody_expects(embedded_cluster: Cluster) -> None:
    """Wrong and right requests and frames: each has its answer, none a 5xx but 503, and the cluster stays well."""
    result = run.on_cluster(embedded_cluster, PLAN)

    assert [] == result.findings
    document = result.document()
    phases = ("http", "second opinion", "frames", "decoded")
    assert (1_500, 5_000, 5_000, 5_000) == tuple(document[phase]["sent"] for phase in phases)
    assert {"200", "201", "400", "404", "405"} <= document["http"].keys()
    # no page: a stranger's frame may join as a replica, and until it is fenced reads wait for its confirmations
    assert {"storedall", "leased", "known", "status", "failure invalid"} <= document["frames"].keys()
    assert {part.name for part in embedded_cluster.parts} == document["processes"].keys()
    assert msgspec.json.encode(document)


def test_the_decoders_survive_a_coverage_guided_run() -> None:
    """Inputs that reach new branches of the decoders raise InvalidMessageError and nothing else."""
    outcome = coverage_guided.run(seconds=3, seed=SEED)

    assert [] == outcome.findings
    assert outcome.counts["sent"] > 1_000
    assert outcome.counts["edges"] > 20


def test_a_coverage_guided_run_tells_what_breaks() -> None:
    """The exception and the input."""
    (found,) = coverage_guided.run(seconds=5, seed=SEED, harness="tests.fuzz.broken").findings

    assert "ValueError: this decoder is broken" == found.problem
    assert found.sent


@pytest.mark.parametrize(
    ("after", "told"),
    [(Held(1, 160.0, 240, 30), False), (Held(1, 161.0, 40, 10), True), (Held(1, 60.0, 241, 10), True)],
)
def test_what_has_grown_is_told(after: Held, told: bool) -> None:
    """A process whose memory or descriptors do not come back to what they were."""
    assert told == grown(Held(1, 60.0, 40, 10), after)


class Tolerant(HTTPRequestParser):  # type: ignore[misc]
    """waitress' own parser, but for URLs that it breaks at."""

    def parse_header(self, header_plus: bytes) -> None:
        """Read the headers; raises ParsingError."""
        try:
            super().parse_header(header_plus)
        except ValueError as error:
            raise ParsingError("") from error


def test_what_hides_a_request_from_another_server_is_told() -> None:
    """Of waitress' own parser both kinds: what it takes and h11 refuses, and what ends elsewhere for h11."""
    made = corpus.examples(http_requests(), PLAN.examples, SEED)
    outcome = second_opinion.run(made, count=5_000, seed=SEED, parser=Tolerant)

    problems = {found.problem.partition(" at ")[0] for found in outcome.findings}
    assert {"h11 refuses what is taken here", "the request ends"} == problems


@contextmanager
def answering(answer: bytes) -> Iterator[str]:
    """A server that answers everything with these bytes, and then waits; its address."""

    class Handler(socketserver.BaseRequestHandler):
        def handle(self) -> None:
            while self.request.recv(65_536):
                self.request.sendall(answer)

    with socketserver.ThreadingTCPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield f"127.0.0.1:{server.server_address[1]}"
        server.shutdown()
        thread.join()


@pytest.mark.parametrize(
    ("answer", "told"),
    [
        (b"HTTP/1.1 500 Internal Server Error\r\nContent-Length: 2\r\n\r\nno", "answered 500: b'no'"),
        (b"HTTP/1.1 501 Not Implemented\r\nContent-Length: 2\r\n\r\nno", "answered 501: b'no'"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 19\r\n\r\nTraceback (most rec", "answered with a traceback"),
        (b"HTTP/1.1 400 Bad Request\r\nContent-Length: 2\r\n\r\nno", "an error that is no problem document"),
        (b"", "hang: neither an answer nor the end of the connection in time"),
        (FINE[:-1], "hang: "),
        (b"HTTP/1.1 two hundred\r\n\r\n", "no status line: b'HTTP/1.1 two hundred'"),
        (b"HTTP/1.1 200 OK\r\nno header\r\n\r\n", "no header: b'no header'"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 2\r\n\r\nok", "b'content-length' is there twice"),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok..0\r\n\r\n", "a chunk ends with b'..'"),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nok\r\n", "no chunk: b'ok"),
        (FINE.replace(b"OK\r\n", b"OK\r\nConnection: close\r\n"), "hang: "),
    ],
)
def test_a_broken_facade_is_told(answer: bytes, told: str) -> None:
    """A 5xx, a traceback, a hang, and what is no HTTP are findings, each with what was sent."""
    with answering(answer) as address:
        outcome = http_phase.run(address, [REQUEST], count=1, seed=4, hang_s=HANG_S)

    assert [True] == [told in found.problem for found in outcome.findings], outcome.findings
    assert all(found.sent for found in outcome.findings)


def test_a_facade_that_closes_without_an_answer_is_told() -> None:
    """The end of the connection is no answer to a whole request."""

    class Closing(socketserver.BaseRequestHandler):
        def handle(self) -> None:
            self.request.recv(65_536)

    with socketserver.TCPServer(("127.0.0.1", 0), Closing) as server:
        thread = threading.Thread(target=server.handle_request)
        thread.start()
        outcome = http_phase.run(f"127.0.0.1:{server.server_address[1]}", [REQUEST], count=1, seed=4, hang_s=HANG_S)
        thread.join()

    assert ["no answer, and the connection was closed"] == [found.problem for found in outcome.findings]


def test_a_facade_that_answers_is_not_told() -> None:
    """A good answer is counted."""
    with answering(FINE) as address:
        outcome = http_phase.run(address, [REQUEST], count=1, seed=4, hang_s=HANG_S)

    assert ([], {"sent": 1, "200": 1}) == (outcome.findings, dict(outcome.counts))


@contextmanager
def replying(replies: Callable[[list[bytes]], list[list[bytes]]]) -> Iterator[str]:
    """A ROUTER that sends these messages for one; its address."""
    stop = threading.Event()
    with zmq.Context() as context, context.socket(zmq.ROUTER) as router:
        router.setsockopt(zmq.LINGER, 0)
        port = router.bind_to_random_port("tcp://127.0.0.1")

        def serve() -> None:
            while not stop.is_set():
                if router.poll(10):
                    for message in replies(router.recv_multipart()):
                        router.send_multipart(message)

        thread = threading.Thread(target=serve)
        thread.start()
        yield f"127.0.0.1:{port}"
        stop.set()
        thread.join()


@pytest.mark.parametrize(
    ("replies", "told"),
    [
        (lambda _: [], ["hang: no reply in time"]),
        (lambda came: [[*came[:3], PONG]] * 2, ["a second reply"]),
        (lambda came: [[*came[:3], b"\xc1"]], ["an invalid reply (a frame is not msgpack of ours"]),
        (lambda came: [[*came[:3], PONG, PONG]], ["a reply to nothing that waits, or in a wrong envelope"]),
        (lambda came: [[*came[:3], PONG]], []),
    ],
)
def test_a_broken_server_is_told(replies: Callable[[list[bytes]], list[list[bytes]]], told: list[str]) -> None:
    """No reply, two of them, a wrong one, and one that is no message are findings."""
    with replying(replies) as address:
        outcome = frame_phase.run([address], [PING], count=1, seed=SEED, hang_s=HANG_S)

    assert len(told) == len(outcome.findings)
    assert all(found.problem.startswith(begin) for found, begin in zip(outcome.findings, told, strict=True))


def test_a_handler_that_breaks_is_told(logged: list[EventDict]) -> None:
    """The reply "internal error" is a finding: behind it there is a traceback in the log."""

    async def broken(_request: Any) -> Any:
        raise ZeroDivisionError

    with serving(broken) as address:
        outcome = frame_phase.run([address], [PING], count=40, seed=SEED)

    assert "internal error: the log has the traceback" in {found.problem for found in outcome.findings}
    assert {"a handler broke"} == {line["event"] for line in logged}
