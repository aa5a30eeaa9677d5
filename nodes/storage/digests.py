"""The digests by which journals are compared: number of messages and sum of checksums for each hour."""

import zlib

from common.ids import time_ms

HOUR_MS = 3_600_000


def hour_of(message_id: str) -> int:
    """The hour in which an id was made, counted from 1970."""
    return time_ms(message_id) // HOUR_MS


def checksum(message_id: str, text: str) -> int:
    """CRC-32 of a message."""
    return zlib.crc32(f"{message_id} {text}".encode())
