"""Message ids: UUIDv7 (RFC 9562), so that the order of the ids is the order of the times they were made."""

import time
import uuid
from datetime import UTC, datetime

import uuid_utils

_LAST_MS = 253_402_300_799_999


def new_id() -> str:
    """A fresh id in canonical text form; ids made by one process never go back, also within a millisecond."""
    return str(uuid_utils.uuid7())


def now_ms() -> int:
    """Milliseconds since 1970, as ids carry them."""
    return time.time_ns() // 1_000_000


def time_ms(message_id: str) -> int:
    """When the id was made, in milliseconds since 1970, from the first 48 bits of the UUIDv7."""
    return int(message_id[:8] + message_id[9:13], 16)


def time_text(message_id: str) -> str:
    """The same as RFC 3339 has it."""
    return text_of_ms(time_ms(message_id))


def text_of_ms(ms: int) -> str:
    """Milliseconds since 1970 as RFC 3339 has them, in UTC; at most the year 9999, which is all that it can write."""
    moment = datetime.fromtimestamp(min(ms, _LAST_MS) / 1_000, UTC)
    return moment.isoformat(timespec="milliseconds").removesuffix("+00:00") + "Z"


def first_id(from_ms: int) -> str:
    """The lowest id that can be made within the millisecond `from_ms`."""
    stamp = f"{from_ms:012x}"
    return f"{stamp[:8]}-{stamp[8:]}-0000-0000-000000000000"


def previous(message_id: str) -> str:
    """The id just below; "" below all."""
    number = uuid.UUID(message_id).int
    return str(uuid.UUID(int=number - 1)) if number else ""


def last_id(until_ms: int) -> str:
    """The highest id that can be made within the millisecond `until_ms`."""
    stamp = f"{until_ms:012x}"
    return f"{stamp[:8]}-{stamp[8:]}-ffff-ffff-ffffffffffff"
