"""Sends frames to real servers, several at once, and decodes frames in this process; records wrong replies."""

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

WINDOW = 8  # outstanding frames at one server: half of what a server allows one peer
HANG_S = 10.0  # without any reply, after which it counts as a hang
EXTRA_MS = 300  # wait after the last reply for a second reply, which would be a finding

Socket = zmq.Socket[bytes]


def run(
    addresses: Sequence[str],
    corpus: Sequence[bytes],
    *,
    count: int,
    seed: int,
    hang_s: float = HANG_S,
    first: Sequence[bytes] = (),
) -> Outcome:
    """Send `count` mutated frames of a corpus to servers, to each the same number; each must get one valid reply.

    Each server gets the frames `first` at the beginning, unchanged.
    """
    outcome = Outcome("frames", count)
    with zmq.Context() as context, ThreadPoolExecutor(len(addresses)) as threads:

        def send(number: int, address: str) -> None:
            share = len(range(number, count, len(addresses)))
            mutated = endless(corpus, random.Random(f"{seed} {number}"), changed)
            made = itertools.islice(itertools.chain(first, mutated), share)
            with context.socket(zmq.DEALER) as dealer:
                dealer.setsockopt(zmq.LINGER, 0)
                dealer.setsockopt(zmq.MAXMSGSIZE, REPLY_BYTES)
                dealer.connect(f"tcp://{address}")
                _Peer(dealer, address, outcome, hang_s).send_all(frame[:REQUEST_BYTES] for frame in made)

        list(threads.map(send, itertools.count(), addresses))
    return outcome.done()


class _Peer:
    """One connection to one server; a number in the envelope matches replies to frames, as with REQ sockets."""

    def __init__(self, dealer: Socket, address: str, outcome: Outcome, hang_s: float) -> None:
        self._dealer = dealer
        self._address = address
        self._outcome = outcome
        self._hang_s = hang_s
        self._waiting: dict[bytes, bytes] = {}
        self._numbers = itertools.count(1)

    def send_all(self, frames: Iterator[bytes]) -> None:
        """Send frames while the budget lasts, then wait for outstanding replies."""
        for frame in frames:
            if not self._outcome.take():
                break
            number = b"%08d" % next(self._numbers)
            self._waiting[number] = frame
            self._dealer.send_multipart([number, b"", frame])
            if len(self._waiting) >= WINDOW and not self._receive():
                return
        while self._waiting and self._receive():
            pass
        if self._dealer.poll(EXTRA_MS):
            self._found(f"a second reply: {self._dealer.recv_multipart()!r}", b"")

    def _receive(self) -> bool:
        """Receive and check one reply; False if none came in time."""
        if not self._dealer.poll(int(1_000 * self._hang_s)):
            for frame in self._waiting.values():
                self._found("hang: no reply in time", frame)
            return False
        number, *rest = self._dealer.recv_multipart()
        sent = self._waiting.pop(number, None)
        if sent is None or len(rest) != 2 or rest[0]:
            self._found(f"a reply without a pending frame, or in a wrong envelope: {[number, *rest]!r}", sent or b"")
            return True
        self._judge(rest[1], sent)
        return True

    def _judge(self, frame: bytes, sent: bytes) -> None:
        """Check and count the reply to a frame."""
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
    """Decode `count` mutated frames of a corpus in this process, each as a request and as a reply."""
    outcome = Outcome("decode", count)
    made = endless(corpus, random.Random(f"{seed} decode"), changed)
    while outcome.take():
        frame = next(made)
        try:
            outcome.count("valid" if check(frame) else "invalid")
        except Exception as error:  # any exception is a finding
            outcome.found(f"{type(error).__name__}: {error}", frame)
    return outcome.done()


def check(frame: bytes) -> bool:
    """True if a frame is a valid message.

    Raises:
        Exception: the decoder raised anything but InvalidMessageError, or its result differs after encode and decode.
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
    """Raise ValueError if a message differs after encode and decode."""
    if before != after:
        raise ValueError(f"{before!r} decoded again as {after!r}"[:1_000])
