"""Sends frames to real servers, some at once, and decodes frames in this process; says what is wrong."""

import itertools
import random
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor

import zmq

from common.errors import InvalidMessageError
from common.protocol import codec
from common.protocol.messages import REPLY_BYTES, REQUEST_BYTES, Failure
from tests.fuzz.corpus import changed, endless
from tests.fuzz.outcome import Outcome

WINDOW = 8  # frames that wait for their replies at one server: half of what one peer may have in flight
HANG_S = 10.0  # without any reply
EXTRA_MS = 300  # after the last reply: then no second one to any frame comes

Socket = zmq.Socket[bytes]


def run(addresses: Sequence[str], corpus: Sequence[bytes], *, count: int, seed: int, hang_s: float = HANG_S) -> Outcome:
    """Send `count` frames made of a corpus to servers: each gets exactly one valid reply."""
    outcome = Outcome("frames", count)
    with zmq.Context() as context, ThreadPoolExecutor(len(addresses)) as threads:

        def send(number: int, address: str) -> None:
            made = endless(corpus, random.Random(f"{seed} {number}"), changed)
            with context.socket(zmq.DEALER) as dealer:
                dealer.setsockopt(zmq.LINGER, 0)
                dealer.setsockopt(zmq.MAXMSGSIZE, REPLY_BYTES)
                dealer.connect(f"tcp://{address}")
                _Peer(dealer, address, outcome, hang_s).send_all(frame[:REQUEST_BYTES] for frame in made)

        list(threads.map(send, itertools.count(), addresses))
    return outcome.done()


class _Peer:
    """One connection to one server: a reply belongs to its frame by the number in the envelope, as with REQ sockets."""

    def __init__(self, dealer: Socket, address: str, outcome: Outcome, hang_s: float) -> None:
        self._dealer = dealer
        self._address = address
        self._outcome = outcome
        self._hang_s = hang_s
        self._waiting: dict[bytes, bytes] = {}
        self._numbers = itertools.count(1)

    def send_all(self, frames: Iterator[bytes]) -> None:
        """Send as long as there is budget, then wait for what is still to come."""
        while self._outcome.take():
            number, frame = b"%08d" % next(self._numbers), next(frames)
            self._waiting[number] = frame
            self._dealer.send_multipart([number, b"", frame])
            if len(self._waiting) >= WINDOW and not self._receive():
                return
        while self._waiting and self._receive():
            pass
        if self._dealer.poll(EXTRA_MS):
            self._found(f"a second reply: {self._dealer.recv_multipart()!r}", b"")

    def _receive(self) -> bool:
        """Take one reply; whether one came."""
        if not self._dealer.poll(int(1_000 * self._hang_s)):
            for frame in self._waiting.values():
                self._found("hang: no reply in time", frame)
            return False
        number, *rest = self._dealer.recv_multipart()
        sent = self._waiting.pop(number, None)
        if sent is None or len(rest) != 2 or rest[0]:
            self._found(f"a reply to nothing that waits, or in a wrong envelope: {[number, *rest]!r}", sent or b"")
            return True
        self._judge(rest[1], sent)
        return True

    def _judge(self, frame: bytes, sent: bytes) -> None:
        try:
            reply = codec.decode_reply(frame)
        except InvalidMessageError as error:
            self._found(f"an invalid reply ({error}): {frame[:200]!r}", sent)
            return
        match reply:
            case Failure(reason="internal error"):
                self._found("internal error: the log has the traceback", sent)
            case Failure(code=code):
                self._outcome.count(f"failure {code}")
            case _:
                self._outcome.count(type(reply).__name__.lower())

    def _found(self, problem: str, sent: bytes) -> None:
        self._outcome.found(problem, sent, f"frame to {self._address}")


def decode(corpus: Sequence[bytes], *, count: int, seed: int) -> Outcome:
    """Decode `count` frames made of a corpus here, as a request and as a reply."""
    outcome = Outcome("decode", count)
    made = endless(corpus, random.Random(f"{seed} decode"), changed)
    while outcome.take():
        frame = next(made)
        try:
            outcome.count("a message" if check(frame) else "none")
        except Exception as error:  # whatever it is, it is what is looked for
            outcome.found(f"{type(error).__name__}: {error}", frame)
    return outcome.done()


def check(frame: bytes) -> bool:
    """Whether a frame is a message.

    Raises:
        Exception: the decoder raised anything but InvalidMessageError, or what it gave does not survive its own frame.
    """
    request = reply = None
    try:
        request = codec.decode_request(frame)
    except InvalidMessageError:
        pass
    else:
        survives(request, codec.decode_request(codec.encode(*request)))
    try:
        reply = codec.decode_reply(frame)
    except InvalidMessageError:
        pass
    else:
        survives(reply, codec.decode_reply(codec.encode(reply)))
    return bool(request or reply)


def survives(before: object, after: object) -> None:
    """Raises ValueError when they differ."""
    if before != after:
        raise ValueError(f"{before!r} came back as {after!r}"[:1_000])
