"""Export and import of all messages as NDJSON: one object `{"id", "time", "msg", "fields"}` per line."""

import asyncio
import itertools
import json
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import msgspec

from common import config, ids, process
from common.batches import batched
from common.errors import FatalError, InvalidMessageError, ServiceError
from common.protocol.content import Entry, MessageId, Text, canonical, content_bytes
from common.protocol.messages import Appended
from common.protocol.search import fields_of
from common.rpc.pipelined import PipelinedTransport, WaitingTransport
from common.security import keyring
from facade.client.client import Client
from facade.client.failure_detector import FailureDetector
from facade.client.retry import RetryPolicy
from facade.server.scheduler import Scheduler

POLICY = RetryPolicy(attempt_timeout_s=5.0, deadline_s=60.0)  # a person waits, and a node may be starting
BATCH_BYTES, BATCH_MESSAGES = 65_536, 500  # limits of one request: bytes of text (encoded at most twice)
SENDERS = 4  # limit of requests in flight
PROGRESS_MESSAGES = 100_000  # between two lines of progress

Progress = Callable[[str], object]


class Line(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One line. An import ignores `time`, the time of the id for human readers, and `node`, which pages have."""

    id: MessageId
    msg: Text
    fields: dict[str, str | int | float | bool] = {}
    time: str = ""
    node: str = ""


@contextmanager
def connected(settings: config.Config, folder: Path) -> Iterator[Client]:
    """A client of a cluster; `folder` has the config.toml, to which the paths in `settings` are relative."""
    scheduler = Scheduler()
    pipelines = PipelinedTransport(process.keyring_of(settings, folder, keyring.OPERATOR), scheduler)
    transport = WaitingTransport(pipelines, scheduler.wait)
    try:
        yield Client(scheduler, transport, settings.registry.addresses, POLICY, detector=FailureDetector())
    finally:
        scheduler.close()
        pipelines.close()


class _Counter:
    """Counts messages, and reports progress after every `every` of them."""

    def __init__(self, progress: Progress, every: int) -> None:
        self.count = 0
        self.expired = 0  # messages that were not stored, because retention has removed newer ones
        self._progress = progress
        self._every = every

    def add(self, messages: int) -> None:
        before, self.count = self.count, self.count + messages
        if before // self._every != self.count // self._every:
            self._progress(f"{self.count} messages")


def export(
    client: Client, write: Callable[[str], object], progress: Progress, *, progress_messages: int = PROGRESS_MESSAGES
) -> int:
    """Write all messages in id order, page by page; returns their number.

    Raises:
        FatalError: no node answered.
    """
    counter, after = _Counter(progress, progress_messages), ""
    try:
        while True:
            page = client.page(after)
            for entry in page.entries:
                write(_line(entry))
            counter.add(len(page.entries))
            if page.next is None:
                return counter.count
            after = page.next
    except ServiceError as error:
        raise FatalError(f"the export stopped after {counter.count} messages: {error}") from error


def import_lines(
    client: Client, lines: Iterable[str], progress: Progress, *, progress_messages: int = PROGRESS_MESSAGES
) -> int:
    """Store the message of each line under its id, so that an import can be repeated; returns their number.

    Raises:
        FatalError: a line is invalid (the error names it), or no node answered. Earlier messages may be stored.
    """
    counter = _Counter(progress, progress_messages)
    requests: list[tuple[int, asyncio.Future[Appended]]] = []

    def wait_until_in_flight(at_most: int) -> None:
        while len(requests) > at_most:
            messages, appended = requests.pop(0)
            counter.expired += (expired := len(client.scheduler.wait(appended).expired))
            counter.add(messages - expired)

    try:
        entries = batched(_entries(lines), content_bytes, max_bytes=BATCH_BYTES, max_items=BATCH_MESSAGES)
        for batch in entries:
            requests.append((len(batch), client.scheduler.started(partial(client.append_all, batch))))
            client.scheduler.turn(0.0)  # send the request now: the next line may take long to arrive
            wait_until_in_flight(SENDERS)
        wait_until_in_flight(0)
    except ServiceError as error:
        raise FatalError(f"the import stopped after {counter.count} messages, run it again: {error}") from error
    if counter.expired:
        raise FatalError(
            f"{counter.count} messages are imported; {counter.expired} are older than what retention has removed"
        )
    return counter.count


def _line(entry: Entry) -> str:
    found: dict[str, Any] = {"id": entry.id, "time": ids.time_text(entry.id), "msg": entry.msg}
    return json.dumps(found | ({"fields": fields_of(entry.fields)} if entry.fields else {})) + "\n"


def _entries(lines: Iterable[str]) -> Iterator[Entry]:
    for number, line in zip(itertools.count(1), lines, strict=False):
        if not line.strip():
            continue
        try:
            found = msgspec.json.decode(line, type=Line)
            fields = canonical(found.fields) if found.fields else ""
            entry = msgspec.convert(Entry(found.id, found.msg, fields), Entry)  # checks the lengths
            content_bytes(entry)  # raises for text that UTF-8 cannot carry
        except (msgspec.MsgspecError, InvalidMessageError) as error:
            raise FatalError(f"line {number} is not a message: {error}") from error
        yield entry
