"""Stores the messages of a batch request, and reports a result for each message."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from common import ids
from common.batches import batched
from common.errors import RequestError, ServiceError, ThreefoldError
from common.protocol.content import Entry, content_bytes
from common.protocol.messages import PAGE_MESSAGES, Appended
from common.telemetry.timing import Timing
from facade.client.appends import BATCH_BYTES, EXPIRED, KEY_CONFLICT
from facade.client.client import Client

KEYED_MESSAGES = 250  # in one request to a node, if some have keys: another node decides about most of the keys


@dataclass(frozen=True, slots=True)
class BatchOutcome:
    """The results of a batch.

    Attributes:
        results: one for each message, in request order: its id and time, and `replayed` if it was stored before under
            its key; or its index and an error.
        refused: why messages are not valid, by their places; nothing else keeps them from being stored.
        nodes: host:port of the nodes that accepted them.
        error: why not all messages are stored, or not for sure; None if all are.
    """

    results: list[dict[str, Any]]
    refused: dict[int, str]
    nodes: tuple[str, ...]
    error: ThreefoldError | None


def store_batch(client: Client, items: Sequence[Entry | RequestError], timing: Timing) -> BatchOutcome:
    """Store the valid messages and report the invalid ones, which are passed as errors. A failure stops the batch."""
    batch = _Batch(items)
    sent = {index: item for index, item in enumerate(items) if isinstance(item, Entry)}
    has_keys = any(entry.key for entry in sent.values())
    chunks = batched(
        sent,
        lambda index: content_bytes(sent[index]),
        max_bytes=BATCH_BYTES,
        max_items=KEYED_MESSAGES if has_keys else PAGE_MESSAGES,
    )
    for chunk in chunks:
        if batch.failure is None:
            try:
                batch.store(chunk, client.append_all([sent[index] for index in chunk], timing))
                continue
            except ServiceError as error:
                batch.failure = error
                batch.unconfirmed |= dict.fromkeys(chunk, str(error))
        else:
            batch.unconfirmed |= dict.fromkeys(chunk, "it was not sent, because an earlier one failed")
    return batch.outcome()


class _Batch:
    """The results of a batch while it is stored.

    Args:
        items: its messages, or why they are not valid.

    Attributes:
        unconfirmed: why messages are not stored for sure, by their places.
        failure: the error of the nodes that stopped the batch.
    """

    def __init__(self, items: Sequence[Entry | RequestError]) -> None:
        self._items = items
        self.unconfirmed: dict[int, str] = {}
        self._refused = {index: str(item) for index, item in enumerate(items) if isinstance(item, RequestError)}
        self._stored_as = {index: item.id for index, item in enumerate(items) if isinstance(item, Entry)}
        self._replayed: set[int] = set()
        self._nodes: dict[str, None] = {}
        self.failure: ServiceError | None = None

    def store(self, chunk: Sequence[int], appended: Appended) -> None:
        """Record the answer of a node about the messages at some places."""
        self._nodes[appended.node] = None
        for place, index in enumerate(chunk):
            if place in appended.conflicts or place in appended.expired:
                self._refused[index] = KEY_CONFLICT if place in appended.conflicts else EXPIRED
                del self._stored_as[index]
            elif appended.stored_as and appended.stored_as[place] != self._stored_as[index]:
                self._stored_as[index] = appended.stored_as[place]
                self._replayed.add(index)

    def outcome(self) -> BatchOutcome:
        """The outcome of the batch."""
        results = [self._result(index) for index in range(len(self._items))]
        wrong = f"{len(self._refused)} of {len(self._items)} messages are not valid"
        refused = RequestError(f"{wrong}, and only they are not stored; see results") if self._refused else None
        return BatchOutcome(results, self._refused, tuple(self._nodes), self.failure or refused)

    def _result(self, index: int) -> dict[str, Any]:
        message_id, error = self._stored_as.get(index), self._refused.get(index) or self.unconfirmed.get(index)
        stored: dict[str, Any] = {"id": message_id, "time": ids.time_text(message_id)} if message_id else {}
        if index in self._replayed:
            stored["replayed"] = True
        return {"index": index, **stored, "message": error} if error else stored
