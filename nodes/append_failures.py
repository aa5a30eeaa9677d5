"""Failure replies to appends: for an id from the future, and for messages that were not stored."""

from collections.abc import Sequence

from common import ids
from common.errors import StoreError
from common.protocol.messages import Code, Entry, Failure, failure
from nodes.replication.core.effects import AppendOutcome, FinishAppend

AHEAD_MS = 60_000  # how far the time of an id may be ahead of this node's clock: clocks differ a little


def ahead(entries: Sequence[Entry], now_ms: int, address: str) -> Failure | None:
    """The refusal of ids whose time is over AHEAD_MS ahead of the node's clock, None if there are none.

    Such a message would stay the newest one until the clock reaches its time.
    """
    highest = max((entry.id for entry in entries), default="")
    if not highest or (ahead_ms := ids.time_ms(highest) - now_ms) <= AHEAD_MS:
        return None
    return Failure(
        code=Code.AHEAD,
        reason=f"the time of id {highest} is {ahead_ms // 1_000} s ahead of the clock of {address}, "
        f"over the limit of {AHEAD_MS // 1_000} s: set the clocks, or import with UUIDv7 ids",
    )


def not_stored(finish: FinishAppend) -> Failure | None:
    """The refusal of an append that was not stored, None if it was stored.

    Raises:
        StoreError: the messages may be stored.
    """
    match finish.outcome:
        case AppendOutcome.STORED:
            return None
        case AppendOutcome.CONFLICT:
            return failure(Code.CONFLICT, finish.reason)
        case AppendOutcome.REFUSED:
            return failure(Code.STARTING, finish.reason)
        case AppendOutcome.UNKNOWN:
            raise StoreError(finish.reason)
