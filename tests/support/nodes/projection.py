"""Messages for the Hazelcast map, and how a node puts them there."""

import asyncio
from collections.abc import Sequence

from common import ids
from common.protocol.content import Entry
from nodes.hazelcast.map import Projection
from tests.support.waiting import becomes

LARGE_TEXT = "x" * 60 * 1_024  # nearly as long as a text may be


async def put(projection: Projection, entries: Sequence[Entry]) -> None:
    """Put messages into the map, and wait for its answer as a node does."""
    if answer := projection.send(entries, ids.now_ms()):
        await asyncio.wait([answer])


def new_entries(*texts: str) -> list[Entry]:
    """Messages with ids of the present time."""
    return [Entry(ids.new_id(), text) for text in texts]


async def becomes_idle(projection: Projection, *, missed: int) -> None:
    """Return when no put is under way, and this number of messages has been missed."""

    async def state() -> tuple[int, int]:
        return projection.puts_in_flight, projection.missed

    await becomes((0, missed), state)
