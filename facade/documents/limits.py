"""How much a facade takes, as it tells its clients."""

from common import config
from common.origin import REQUEST_ID_CHARACTERS
from common.wire import PAGE_MESSAGES
from facade.documents.schema import Limits


def of(settings: config.Config) -> Limits:
    """What is taken by a facade with this configuration."""
    limits = settings.limits
    return Limits(
        message_bytes=limits.message_bytes,
        body_bytes=limits.body_bytes,
        batch_bytes=limits.batch_bytes,
        batch_messages=limits.batch_messages,
        page_messages=PAGE_MESSAGES,
        url_bytes=limits.url_bytes,
        header_bytes=limits.header_bytes,
        idempotency_key_characters=limits.key_characters,
        request_id_characters=REQUEST_ID_CHARACTERS,
        receive_s=limits.receive_s,
        deadline_s=settings.facade.deadline_s,
        streams=settings.facade.streams,
        queued=limits.queued,
        connections=limits.connections,
        client_rate=limits.client_rate,
    )
