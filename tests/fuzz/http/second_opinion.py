"""Where a request ends, by the facade's parser and by h11: what one server reads in another way can hide a request."""

import random
from collections.abc import Callable, Sequence
from typing import Any

import h11
from waitress.adjustments import Adjustments

from facade.server.parser import Parser
from tests.fuzz.corpus import changed_request, endless
from tests.fuzz.http.http_phase import LIMITS
from tests.fuzz.outcome import Outcome

REFUSED, MORE = -1, -2  # instead of the place at which the first request ends
PIECES = (3, 50, 8_192)  # bytes that a parser gets at once; the last is what waitress reads


def run(corpus: Sequence[bytes], *, count: int, seed: int, parser: Callable[[Adjustments], Any] = Parser) -> Outcome:
    """Have both read `count` requests made of a corpus, in this process."""
    outcome = Outcome("second opinion", count)
    chance = random.Random(f"{seed} second opinion")
    made = endless(corpus, chance, changed_request)
    while outcome.take():
        sent = next(made).lstrip(b"\r\n")  # blank lines before a request may be passed over, and h11 does not
        ours, other = by_us(sent, parser(LIMITS), chance.choice(PIECES)), by_h11(sent)
        outcome.count({REFUSED: "refused", MORE: "not whole"}.get(ours, "taken"))
        if problem := judge(ours, other):
            outcome.found(problem, sent)
    return outcome.done()


def judge(ours: int, other: int) -> str | None:
    """What is wrong with our reading: we may refuse what h11 takes, but not take what it refuses or ends elsewhere."""
    if ours == REFUSED or (ours, other) == (MORE, REFUSED):
        return None
    if other == REFUSED:
        return "h11 refuses what is taken here"
    return None if ours == other else f"the request ends at {ours} here, and at {other} for h11 ({MORE}: not yet)"


def by_us(sent: bytes, parser: Any, piece: int) -> int:
    """Where the first request in some bytes ends for a new parser that gets so many at once, or REFUSED, or MORE."""
    taken = 0
    try:
        while taken < len(sent) and not parser.completed:
            taken += min(piece, parser.received(sent[taken : taken + piece]))
        if parser.error:
            return REFUSED
        return taken if parser.completed else MORE
    finally:
        parser.close()


def by_h11(sent: bytes) -> int:
    """The same by h11, which is not asked for our limits."""
    connection = h11.Connection(h11.SERVER, max_incomplete_event_size=len(sent) + 1)
    if sent:  # nothing would be the end of the connection
        connection.receive_data(sent)
    try:
        while not isinstance(event := connection.next_event(), h11.EndOfMessage):
            if event is h11.NEED_DATA:
                return MORE
    except h11.RemoteProtocolError:
        return REFUSED
    return len(sent) - len(connection.trailing_data[0])
