"""Message ids: UUIDv7 (RFC 9562), which sort by the time of their creation."""

import secrets
import time
import uuid
from datetime import UTC, datetime

import uuid_utils

AHEAD_MS = 60_000  # how far the time of an id may be ahead of a clock of another process: clocks differ a little
_LAST_MS = 253_402_300_799_999  # the last millisecond of the year 9999


def new_id() -> str:
    """A new id in canonical text form; the ids of one process are strictly increasing, also within a millisecond."""
    return str(uuid_utils.uuid7())


def id_at(made_ns: int, place: int) -> str:
    """A new id with a time in nanoseconds since 1970. Ids of one time sort by `place`: from 0, up to 16,383.

    The 12 bits after the milliseconds are the fraction of a millisecond (RFC 9562, method 3), so that ids of several
    requests sort by time, too.
    """
    made_ms, rest_ns = divmod(made_ns, 1_000_000)
    made_ms = min(made_ms, (1 << 48) - 1)
    number = (made_ms << 80) | (0x7 << 76) | ((rest_ns << 12) // 1_000_000 << 64)
    return str(uuid.UUID(int=number | (0b10 << 62) | ((place & 0x3FFF) << 48) | secrets.randbits(48)))


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
