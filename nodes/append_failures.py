"""The failures that a logging node answers an append with: an id from the future, or a message that is not stored."""

from collections.abc import Sequence

from common import ids
from common.errors import StoreError
from common.protocol.messages import Code, Entry, Failure, failure
from nodes.replication.core.effects import AppendOutcome, FinishAppend

AHEAD_MS = 60_000  # that an id may be ahead of the clock of this node


def ahead(entries: Sequence[Entry], now_ms: int, address: str) -> Failure | None:
    """The refusal of ids whose time is ahead of the clock of the node: one would stay the newest until then."""
    highest = max((entry.id for entry in entries), default="")
    if not highest or (ahead_ms := ids.time_ms(highest) - now_ms) <= AHEAD_MS:
        return None
    return Failure(
        code=Code.AHEAD,
        reason=f"the time of id {highest} is {ahead_ms // 1_000} s ahead of the clock of {address}, "
        f"over the limit of {AHEAD_MS // 1_000} s: set the clocks, or import with UUIDv7 ids",
    )


def not_stored(finish: FinishAppend) -> Failure | None:
    """The refusal of an append that is not stored, None if it is; raises StoreError when it may be."""
    match finish.outcome:
        case AppendOutcome.STORED:
            return None
        case AppendOutcome.CONFLICT:
            return failure(Code.CONFLICT, finish.reason)
        case AppendOutcome.REFUSED:
            return failure(Code.STARTING, finish.reason)
        case AppendOutcome.UNKNOWN:
            raise StoreError(finish.reason)
