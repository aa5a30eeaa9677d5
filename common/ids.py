"""Message ids: UUIDv7 (RFC 9562), which sort by the time of their creation."""

import time
import uuid
from datetime import UTC, datetime

import uuid_utils

_LAST_MS = 253_402_300_799_999  # the last millisecond of the year 9999


def new_id() -> str:
    """A new id in canonical text form; the ids of one process are strictly increasing, also within a millisecond."""
    return str(uuid_utils.uuid7())


def now_ms() -> int:
    """The current time in milliseconds since 1970, the unit in which ids carry it."""
    return time.time_ns() // 1_000_000


def time_ms(message_id: str) -> int:
    """The creation time of an id, in milliseconds since 1970, from the first 48 bits of the UUIDv7."""
    return int(message_id[:8] + message_id[9:13], 16)


def time_text(message_id: str) -> str:
    """The creation time of an id as an RFC 3339 text in UTC."""
    return text_of_ms(time_ms(message_id))


def text_of_ms(ms: int) -> str:
    """Milliseconds since 1970 as an RFC 3339 text in UTC; later times become the end of 9999, the last year it has."""
    moment = datetime.fromtimestamp(min(ms, _LAST_MS) / 1_000, UTC)
    return moment.isoformat(timespec="milliseconds").removesuffix("+00:00") + "Z"


def first_id(from_ms: int) -> str:
    """The lowest possible id of the millisecond `from_ms`."""
    stamp = f"{from_ms:012x}"
    return f"{stamp[:8]}-{stamp[8:]}-0000-0000-000000000000"


def previous(message_id: str) -> str:
    """The id directly below `message_id`; "" if that is the lowest one."""
    number = uuid.UUID(message_id).int
    return str(uuid.UUID(int=number - 1)) if number else ""


def last_id(until_ms: int) -> str:
    """The highest possible id of the millisecond `until_ms`."""
    stamp = f"{until_ms:012x}"
    return f"{stamp[:8]}-{stamp[8:]}-ffff-ffff-ffffffffffff"
