"""Sends requests over raw connections, and records wrong answers."""

import contextlib
import random
import socket
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from waitress.adjustments import Adjustments

from common.hostport import split
from facade.server.parser import DEFAULT, Parser
from tests.fuzz.corpus import changed_request, endless
from tests.fuzz.http.answers import Answer, AnswerError, EndedError, Reader
from tests.fuzz.outcome import Outcome

CONNECTIONS = 8  # concurrent; more than the facade has threads for quick requests
HANG_S = 10.0  # without data or an end of the connection; the facade itself answers 503 after 10 s (deadline_s)
PIPELINED = 10  # most requests that are expected in one input

LIMITS = Adjustments(max_request_body_size=DEFAULT.batch_bytes, max_request_header_size=DEFAULT.header_bytes)


@dataclass(frozen=True, slots=True)
class Expected:
    """The methods of the requests in an input, up to one that ends the connection, and whether one is incomplete."""

    methods: tuple[str, ...]
    unfinished: bool


def expected(sent: bytes) -> Expected:
    """The requests that the facade's own parser finds in an input, and so the number of answers it must send."""
    methods: list[str] = []
    while sent and len(methods) < PIPELINED:
        parser = Parser(LIMITS)
        try:
            while sent and not parser.completed:
                sent = sent[parser.received(sent) :]
        except Exception:
            return Expected((*methods, "GET"), unfinished=False)
        finally:
            parser.close()
        if not parser.completed:
            return Expected(tuple(methods), unfinished=True)
        if not parser.empty:
            methods.append(parser.command)
            if parser.error or parser.connection_close:
                break
    return Expected(tuple(methods), unfinished=not methods)


def run(address: str, corpus: Sequence[bytes], *, count: int, seed: int, hang_s: float = HANG_S) -> Outcome:
    """Send `count` mutated requests of a corpus to a facade, over CONNECTIONS connections."""
    outcome = Outcome(f"HTTP {address}", count)
    streams = [endless(corpus, random.Random(f"{seed} {number}"), changed_request) for number in range(CONNECTIONS)]
    with ThreadPoolExecutor(CONNECTIONS) as threads:
        list(threads.map(lambda requests: _client(address, requests, outcome, hang_s), streams))
    return outcome.done()


def _client(address: str, requests: Iterator[bytes], outcome: Outcome, hang_s: float) -> None:
    """Send requests over one connection, which is replaced when the server closes it."""
    with contextlib.ExitStack() as stack:
        connection: socket.socket | None = None
        while outcome.take():
            sent = next(requests)
            if connection is None:
                try:
                    connection = stack.enter_context(socket.create_connection(split(address), timeout=hang_s))
                except OSError as error:
                    outcome.found(f"no connection: {error}", sent)
                    continue
                reader = Reader(connection)
            if not exchange(connection, reader, sent, outcome, hang_s):
                stack.close()
                connection = None


def exchange(connection: socket.socket, reader: Reader, sent: bytes, outcome: Outcome, hang_s: float) -> bool:
    """Send an input and check all its answers; True if the connection can be used again."""
    requests = expected(sent)
    try:
        connection.settimeout(hang_s)
        with contextlib.suppress(ConnectionError):  # the server may refuse before it has read everything
            connection.sendall(sent)
        for method in requests.methods:
            answer = reader.answer(method, hang_s)
            judge(answer, sent, outcome)
            if answer.left:
                return False
        if requests.unfinished:
            _finish(connection, reader, sent, outcome, hang_s)
    except EndedError as error:
        if not requests.unfinished and not error.reset:  # a reset may have lost the answer
            outcome.found("no answer, and the connection was closed", sent)
        outcome.count("closed")
        return False
    except (AnswerError, TimeoutError) as error:
        outcome.found(str(error), sent)
        return False
    return not requests.unfinished


def _finish(connection: socket.socket, reader: Reader, sent: bytes, outcome: Outcome, hang_s: float) -> None:
    """Send no more bytes; the server must end the connection, with or without an answer."""
    with contextlib.suppress(OSError):
        connection.shutdown(socket.SHUT_WR)
    while not (answer := reader.answer("GET", hang_s)).left:
        judge(answer, sent, outcome)


def judge(answer: Answer, sent: bytes, outcome: Outcome) -> None:
    """Count an answer, and record what is wrong with it."""
    outcome.count(str(answer.status))
    if answer.status >= 500 and answer.status != 503:
        outcome.found(f"answered {answer.status}: {answer.body[:300]!r}", sent)
    elif b"Traceback" in answer.body:
        outcome.found(f"answered with a traceback: {answer.body[:300]!r}", sent)
    elif answer.status >= 400 and not answer.headers.get(b"content-type", b"").startswith(b"application/problem+json"):
        outcome.found(f"an error without a problem document: {answer.headers}", sent)
