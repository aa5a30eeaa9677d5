"""Stores the messages of a batch request, and reports a result for each message."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from common import ids
from common.batches import batched
from common.errors import RequestError, ServiceError, ThreefoldError
from common.protocol.messages import PAGE_MESSAGES, Entry, text_bytes
from common.telemetry.timing import Timing
from facade.client.appends import BATCH_BYTES
from facade.client.client import Client


@dataclass(frozen=True, slots=True)
class BatchOutcome:
    """The results of a batch.

    Attributes:
        results: one for each message, in request order: its id and time, or its index and an error.
        nodes: host:port of the nodes that accepted them.
        error: why not all messages are stored, or not for sure; None if all are.
    """

    results: list[dict[str, Any]]
    nodes: tuple[str, ...]
    error: ThreefoldError | None


def store_batch(
    client: Client, texts: Sequence[str | RequestError], new_id: Callable[[], str], timing: Timing
) -> BatchOutcome:
    """Store the valid texts and report the invalid ones, which are passed as errors. A failure stops the batch."""
    entries = {index: Entry(new_id(), text) for index, text in enumerate(texts) if isinstance(text, str)}
    errors: dict[int, str] = {index: str(text) for index, text in enumerate(texts) if isinstance(text, RequestError)}
    nodes: dict[str, None] = {}
    failure: ServiceError | None = None
    chunks = batched(
        entries, lambda index: text_bytes(entries[index].msg), max_bytes=BATCH_BYTES, max_items=PAGE_MESSAGES
    )
    for chunk in chunks:
        if failure is None:
            try:
                appended = client.append_all([entries[index] for index in chunk], timing)
                nodes[appended.node] = None
                continue
            except ServiceError as error:
                failure = error
                errors |= dict.fromkeys(chunk, str(error))
        else:
            errors |= dict.fromkeys(chunk, "it was not sent, because an earlier one failed")
    results = [_result(index, entries.get(index), errors.get(index)) for index in range(len(texts))]
    wrong = len(texts) - len(entries)
    invalid = RequestError(f"{wrong} of {len(texts)} messages are not valid, and only they are not stored; see results")
    return BatchOutcome(results, tuple(nodes), failure or (invalid if wrong else None))


def _result(index: int, entry: Entry | None, error: str | None) -> dict[str, Any]:
    stored = {"id": entry.id, "time": ids.time_text(entry.id)} if entry else {}
    return {"index": index, **stored, "message": error} if error else stored
