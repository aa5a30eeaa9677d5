"""Stores many messages of one request, and says of each what became of it."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from common import ids
from common.errors import RequestError, ServiceError
from common.sequences import chunks
from common.wire import PAGE_MESSAGES, Entry, text_bytes
from facade.client.client import Client
from facade.client.posts import CHUNK_BYTES
from facade.timing import Timing


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of a batch.

    Attributes:
        results: one for each message, in order: its id and time, or its index and what is wrong.
        nodes: who took them.
        failure: why some that are well-formed are not, or perhaps not, stored; None when all are.
    """

    results: list[dict[str, Any]]
    nodes: tuple[str, ...]
    failure: str | None


def store(client: Client, texts: Sequence[str | RequestError], new_id: Callable[[], str], timing: Timing) -> Outcome:
    """Store the texts; the errors among them stay where they are. What follows a failure is not sent."""
    places = {index: Entry(new_id(), text) for index, text in enumerate(texts) if isinstance(text, str)}
    errors: dict[int, str] = {index: str(text) for index, text in enumerate(texts) if isinstance(text, RequestError)}
    nodes: dict[str, None] = {}
    failure: str | None = None
    for chunk in chunks(places, lambda index: text_bytes(places[index].msg), lift=CHUNK_BYTES, seats=PAGE_MESSAGES):
        if failure is None:
            try:
                stored = client.append_all([places[index] for index in chunk], timing)
                nodes[stored.node] = None
                continue
            except ServiceError as error:
                failure = str(error)
                errors |= dict.fromkeys(chunk, failure)
        else:
            errors |= dict.fromkeys(chunk, "it was not sent, because one before it failed")
    results = [_result(index, places.get(index), errors.get(index)) for index in range(len(texts))]
    return Outcome(results, tuple(nodes), failure)


def _result(index: int, entry: Entry | None, error: str | None) -> dict[str, Any]:
    told = {"id": entry.id, "time": ids.time_text(entry.id)} if entry else {}
    return {"index": index, **told, "message": error} if error else told
