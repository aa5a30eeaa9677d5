"""Compares where the facade's parser and h11 end a request; a difference would allow request smuggling."""

import random
from collections.abc import Callable, Sequence
from typing import Any

import h11
from waitress.adjustments import Adjustments

from facade.server.parser import Parser
from tests.fuzz.corpus import changed_request, endless
from tests.fuzz.http.http_phase import LIMITS
from tests.fuzz.outcome import Outcome

REFUSED, MORE = -1, -2  # returned instead of an offset: the request is invalid, or incomplete
PIECES = (3, 50, 8_192)  # bytes that a parser gets at once; waitress reads 8,192


def run(corpus: Sequence[bytes], *, count: int, seed: int, parser: Callable[[Adjustments], Any] = Parser) -> Outcome:
    """Parse `count` mutated requests of a corpus with both parsers, in this process."""
    outcome = Outcome("second opinion", count)
    chance = random.Random(f"{seed} second opinion")
    made = endless(corpus, chance, changed_request)
    while outcome.take():
        sent = next(made).lstrip(b"\r\n")  # a server may skip blank lines before a request; h11 does not
        ours, other = by_us(sent, parser(LIMITS), chance.choice(PIECES)), by_h11(sent)
        outcome.count({REFUSED: "refused", MORE: "incomplete"}.get(ours, "accepted"))
        if problem := judge(ours, other):
            outcome.found(problem, sent)
    return outcome.done()


def judge(ours: int, other: int) -> str | None:
    """What is wrong with our result, or None: we may refuse what h11 accepts, but not accept more or end elsewhere."""
    if ours == REFUSED or (ours, other) == (MORE, REFUSED):
        return None
    if other == REFUSED:
        return "h11 refuses what our parser accepts"
    return (
        None
        if ours == other
        else f"the request ends at {ours} for our parser and at {other} for h11 ({MORE}: incomplete)"
    )


def by_us(sent: bytes, parser: Any, piece: int) -> int:
    """The offset at which a new parser ends the first request, or REFUSED, or MORE; it gets `piece` bytes at once."""
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
    """The same for h11, without our limits on sizes."""
    connection = h11.Connection(h11.SERVER, max_incomplete_event_size=len(sent) + 1)
    if sent:  # empty data would mean the end of the connection
        connection.receive_data(sent)
    try:
        while not isinstance(event := connection.next_event(), h11.EndOfMessage):
            if event is h11.NEED_DATA:
                return MORE
    except h11.RemoteProtocolError:
        return REFUSED
    return len(sent) - len(connection.trailing_data[0])
