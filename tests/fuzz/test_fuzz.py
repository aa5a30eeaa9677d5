"""A short form of `make fuzz`, and tests that fuzzing reports broken servers and decoders."""

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
PLAN = run.FuzzPlan(seed=SEED, http=1_500, read=5_000, frames=5_000, decoded=5_000, coverage_s=0, examples=200)
HANG_S = 0.3  # for servers that hang on purpose
REQUEST = b"GET /livez HTTP/1.1\r\nHost: x\r\n\r\n"
PING = codec.encode(Ping())
PONG = codec.encode(Status(service="x", state=State.READY))
FINE = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"


@given(frames.frames())
@settings(deadline=None)
def test_any_frame_is_a_message_or_one_error(frame: bytes) -> None:
    """A decoded frame is the same after encode and decode; any other frame raises InvalidMessageError."""
    frame_phase.check(frame)


@given(frames.valid_frames())
@settings(deadline=None)
def test_the_strategies_make_valid_messages(frame: bytes) -> None:
    """Frames made from the message types are decoded, so that the other tests start from valid input."""
    assert frame_phase.check(frame)


def test_a_cluster_survives_fuzzing(embedded_cluster: Cluster) -> None:
    """Each request and frame gets a correct answer, none a 5xx other than 503, and the cluster stays healthy."""
    result = run.on_cluster(embedded_cluster, PLAN)

    assert [] == result.findings
    document = result.document()
    phases = ("http", "second opinion", "frames", "decoded")
    assert (1_500, 5_000, 5_000, 5_000) == tuple(document[phase]["sent"] for phase in phases)
    assert {"200", "201", "400", "404", "405"} <= document["http"].keys()
    # no page: a fuzzed frame may join as a replica, and reads wait for its confirmations until it is fenced
    assert {"appended", "leasegranted", "lookupresult", "status", "failure invalid"} <= document["frames"].keys()
    assert {part.name for part in embedded_cluster.parts} == document["processes"].keys()
    assert msgspec.json.encode(document)


def test_the_decoders_survive_a_coverage_guided_run() -> None:
    """Inputs that reach new branches of the decoders raise nothing but InvalidMessageError."""
    outcome = coverage_guided.run(seconds=3, seed=SEED)

    assert [] == outcome.findings
    assert outcome.counts["sent"] > 1_000
    assert outcome.counts["edges"] > 20


def test_a_coverage_guided_run_reports_a_broken_decoder() -> None:
    """A finding has the exception and the input."""
    (found,) = coverage_guided.run(seconds=5, seed=SEED, harness="tests.fuzz.broken").findings

    assert "ValueError: this decoder is broken" == found.problem
    assert found.sent


@pytest.mark.parametrize(
    ("after", "leaks"),
    [(Held(1, 160.0, 240, 30), False), (Held(1, 161.0, 40, 10), True), (Held(1, 60.0, 241, 10), True)],
)
def test_a_process_that_has_grown_is_found(after: Held, leaks: bool) -> None:
    """Memory or descriptors above their limits of growth count as a leak."""
    assert leaks == grown(Held(1, 60.0, 40, 10), after)


class Tolerant(HTTPRequestParser):  # type: ignore[misc]
    """The parser of waitress, with an error for URLs on which it would raise ValueError."""

    def parse_header(self, header_plus: bytes) -> None:
        """Read the headers; raises ParsingError."""
        try:
            super().parse_header(header_plus)
        except ValueError as error:
            raise ParsingError("") from error


def test_request_smuggling_is_found() -> None:
    """The parser of waitress accepts requests that h11 refuses, and ends requests elsewhere than h11."""
    made = corpus.examples(http_requests(), PLAN.examples, SEED)
    outcome = second_opinion.run(made, count=5_000, seed=SEED, parser=Tolerant)

    problems = {found.problem.partition(" at ")[0] for found in outcome.findings}
    assert {"h11 refuses what our parser accepts", "the request ends"} == problems


@contextmanager
def answering(answer: bytes) -> Iterator[str]:
    """Run a server that answers every request with these bytes and keeps the connection open; its host:port."""

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
    ("answer", "problem"),
    [
        (b"HTTP/1.1 500 Internal Server Error\r\nContent-Length: 2\r\n\r\nno", "answered 500: b'no'"),
        (b"HTTP/1.1 501 Not Implemented\r\nContent-Length: 2\r\n\r\nno", "answered 501: b'no'"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 19\r\n\r\nTraceback (most rec", "answered with a traceback"),
        (b"HTTP/1.1 400 Bad Request\r\nContent-Length: 2\r\n\r\nno", "an error without a problem document"),
        (b"", "hang: neither an answer nor the end of the connection in time"),
        (FINE[:-1], "hang: "),
        (b"HTTP/1.1 two hundred\r\n\r\n", "not a status line: b'HTTP/1.1 two hundred'"),
        (b"HTTP/1.1 200 OK\r\nno header\r\n\r\n", "not a header: b'no header'"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 2\r\n\r\nok", "b'content-length' appears twice"),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok..0\r\n\r\n", "a chunk ends with b'..'"),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nok\r\n", "not a chunk: b'ok"),
        (FINE.replace(b"OK\r\n", b"OK\r\nConnection: close\r\n"), "hang: "),
    ],
)
def test_a_wrong_answer_is_found(answer: bytes, problem: str) -> None:
    """A 5xx, a traceback, a hang, and invalid HTTP are findings, each with its input."""
    with answering(answer) as address:
        outcome = http_phase.run(address, [REQUEST], count=1, seed=4, hang_s=HANG_S)

    assert [True] == [problem in found.problem for found in outcome.findings], outcome.findings
    assert all(found.sent for found in outcome.findings)


def test_a_connection_that_closes_without_an_answer_is_found() -> None:
    """A complete request needs an answer before the connection ends."""

    class Closing(socketserver.BaseRequestHandler):
        def handle(self) -> None:
            self.request.recv(65_536)

    with socketserver.TCPServer(("127.0.0.1", 0), Closing) as server:
        thread = threading.Thread(target=server.handle_request)
        thread.start()
        outcome = http_phase.run(f"127.0.0.1:{server.server_address[1]}", [REQUEST], count=1, seed=4, hang_s=HANG_S)
        thread.join()

    assert ["no answer, and the connection was closed"] == [found.problem for found in outcome.findings]


def test_a_correct_answer_is_no_finding() -> None:
    """A correct answer is counted."""
    with answering(FINE) as address:
        outcome = http_phase.run(address, [REQUEST], count=1, seed=4, hang_s=HANG_S)

    assert ([], {"sent": 1, "200": 1}) == (outcome.findings, dict(outcome.counts))


@contextmanager
def replying(replies: Callable[[list[bytes]], list[list[bytes]]]) -> Iterator[str]:
    """Run a ROUTER socket that sends the replies that `replies` returns for each message; its host:port."""
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
    ("replies", "problems"),
    [
        (lambda _: [], ["hang: no reply in time"]),
        (lambda sent: [[*sent[:3], PONG]] * 2, ["a second reply"]),
        (lambda sent: [[*sent[:3], b"\xc1"]], ["an invalid reply (a frame is not msgpack of ours"]),
        (lambda sent: [[*sent[:3], PONG, PONG]], ["a reply without a pending frame, or in a wrong envelope"]),
        (lambda sent: [[*sent[:3], PONG]], []),
    ],
)
def test_a_wrong_reply_is_found(replies: Callable[[list[bytes]], list[list[bytes]]], problems: list[str]) -> None:
    """No reply, two replies, a reply in a wrong envelope, and an invalid reply are findings."""
    with replying(replies) as address:
        outcome = frame_phase.run([address], [PING], count=1, seed=SEED, hang_s=HANG_S)

    assert len(problems) == len(outcome.findings)
    assert all(found.problem.startswith(begin) for found, begin in zip(outcome.findings, problems, strict=True))


def test_a_handler_that_raises_is_found(logged: list[EventDict]) -> None:
    """The reply "internal error" is a finding, because a handler raised."""

    async def broken(_request: Any) -> Any:
        raise ZeroDivisionError

    with serving(broken) as address:
        outcome = frame_phase.run([address], [PING], count=40, seed=SEED)

    assert "internal error: the log has the traceback" in {found.problem for found in outcome.findings}
    assert {"unexpected exception in a handler"} == {line["event"] for line in logged}
