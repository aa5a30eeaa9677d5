"""How much a facade takes."""

from common.origin import REQUEST_ID_CHARACTERS
from common.wire import MESSAGE_BYTES, PAGE_MESSAGES
from facade.body import BATCH_BYTES, BATCH_MESSAGES, BODY_BYTES, KEY_CHARACTERS
from facade.schema import Limits

HEADER_BYTES = 16_384  # of all headers of one request
URL_BYTES = 8_192  # of the first line of one request
RECEIVE_S = 5.0  # from the first byte of a request to its last: then the connection is closed
CONNECTIONS = 2_048  # at once; one more waits in the listening socket
QUEUED = 512  # requests that wait for a thread: 0.25 s at 2,000 a second; one more is refused at once


def of(*, deadline_s: float, streams: int) -> Limits:
    """What is taken here."""
    return Limits(
        message_bytes=MESSAGE_BYTES,
        body_bytes=BODY_BYTES,
        batch_bytes=BATCH_BYTES,
        batch_messages=BATCH_MESSAGES,
        page_messages=PAGE_MESSAGES,
        url_bytes=URL_BYTES,
        header_bytes=HEADER_BYTES,
        idempotency_key_characters=KEY_CHARACTERS,
        request_id_characters=REQUEST_ID_CHARACTERS,
        receive_s=RECEIVE_S,
        deadline_s=deadline_s,
        streams=streams,
        queued=QUEUED,
        connections=CONNECTIONS,
    )
