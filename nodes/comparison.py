"""Two halves of a store are compared by ids, and what one lacks is copied from the other."""

from collections.abc import Awaitable, Callable, Sequence

from common import ids
from common.wire import Entry
from nodes.store import Store

MOVED_MESSAGES = 200  # at one go: 13 MB when all are as large as they may be


def missing(source: Sequence[str], present: Sequence[str], end: str) -> list[str]:
    """The ids of the source, up to `end`, that are not among those that are present."""
    known = set(present)
    return [message_id for message_id in source if message_id <= end and message_id not in known]


async def copy(wanted: Sequence[str], source: Store, keep: Callable[[Sequence[Entry]], Awaitable[None]]) -> int:
    """Have the messages of these ids, which are in order, kept; how many those were, for some may have expired."""
    copied, ids_wanted = 0, set(wanted)
    above = ids.previous(wanted[0]) if wanted else ""
    while wanted and above < wanted[-1]:
        found = await source.read(above, MOVED_MESSAGES)
        if entries := [entry for entry in found if entry.id in ids_wanted]:
            await keep(entries)
            copied += len(entries)
        above = found[-1].id if len(found) == MOVED_MESSAGES else wanted[-1]
    return copied
