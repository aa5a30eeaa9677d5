"""What is taken of a post, and how one message is stored."""

from collections.abc import Callable

from common import ids
from common.config import Limits
from common.errors import RequestError
from common.wire import Stored
from facade.api import batch, body
from facade.client.client import Client
from facade.timing import Timing

Read = Callable[[int], bytes]  # at most so many bytes of a body


class Intake:
    """For the resources of one facade.

    Args:
        client: asks the logging nodes.
        limits: of what is taken.
        new_id: makes message ids whose order is the order of time.
    """

    def __init__(self, client: Client, limits: Limits = body.DEFAULT, new_id: Callable[[], str] = ids.new_id) -> None:
        self._client = client
        self._limits = limits
        self._new_id = new_id

    def message(self, content_type: str | None, read: Read) -> str:
        """The text in a body; raises as body.message."""
        return body.message(content_type, read(self._limits.body_bytes + 1), self._limits)

    def messages(self, content_type: str | None, read: Read) -> str | list[str | RequestError]:
        """The text or the texts in a body; raises as body.messages."""
        return body.messages(content_type, read(self._limits.batch_bytes + 1), self._limits)

    def store(self, text: str, key: str | None, timing: Timing) -> Stored:
        """Store one message, with the value of its Idempotency-Key header; raises as Client.append."""
        return self._client.append(self._new_id(), text, body.idempotency_key(key, self._limits), timing)

    def store_all(self, found: list[str | RequestError], timing: Timing) -> batch.Outcome:
        """Store many; see batch.store."""
        return batch.store(self._client, found, self._new_id, timing)
