"""What is compared of two journals: for each hour, how many messages there are, and the sum of their checksums."""

import zlib

from common.ids import time_ms

HOUR_MS = 3_600_000


def hour_of(message_id: str) -> int:
    """The hour since 1970 in which an id was made."""
    return time_ms(message_id) // HOUR_MS


def checksum(message_id: str, text: str) -> int:
    """CRC-32 of a message."""
    return zlib.crc32(f"{message_id} {text}".encode())
