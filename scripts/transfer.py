"""Everything out of a cluster and into one, as NDJSON: one `{"id", "time", "msg"}` per line."""

import asyncio
import itertools
import json
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import msgspec

from common import config, ids, keyring, process
from common.errors import FatalError, InvalidMessageError, ServiceError
from common.sequences import chunks
from common.wire import Entry, MessageId, StoredAll, Text, text_bytes
from facade.client.client import Client
from facade.client.failure_detector import Suspects
from facade.client.retry import Limits
from facade.client.transport import GreenletTransport
from facade.server.scheduler import Scheduler

LIMITS = Limits(attempt_timeout_s=5.0, deadline_s=60.0)  # a person waits, and a node may be starting
BATCH_BYTES, BATCH_MESSAGES = 65_536, 500  # of text in one request, which has at most twice as many bytes
SENDERS = 4  # requests at once
TOLD_MESSAGES = 100_000  # between two lines of progress

Progress = Callable[[str], object]


class Line(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One line: `time` is that of the id (RFC 3339), for people; it is not read."""

    id: MessageId
    msg: Text
    time: str = ""


@contextmanager
def connected(path: Path) -> Iterator[Client]:
    """A client of the cluster that a config.toml names."""
    settings = config.load(path)
    scheduler = Scheduler()
    transport = GreenletTransport(scheduler, process.keyring_of(settings, path.parent, keyring.OPERATOR))
    try:
        yield Client(scheduler, transport, settings.registry.addresses, LIMITS, suspects=Suspects())
    finally:
        scheduler.close()
        transport.close()


def export(
    client: Client, write: Callable[[str], object], progress: Progress, *, told_messages: int = TOLD_MESSAGES
) -> int:
    """Write everything, in the order of the ids, page by page; how many messages that were.

    Raises:
        FatalError: no node answered.
    """
    count, after = 0, ""
    try:
        while True:
            page = client.page(after)
            for entry in page.entries:
                write(json.dumps({"id": entry.id, "time": ids.time_text(entry.id), "msg": entry.msg}) + "\n")
            if count // told_messages != (count := count + len(page.entries)) // told_messages:
                progress(f"{count} messages")
            if page.next is None:
                return count
            after = page.next
    except ServiceError as error:
        raise FatalError(f"the export ends after {count} messages: {error}") from error


def load(client: Client, lines: Iterable[str], progress: Progress, *, told_messages: int = TOLD_MESSAGES) -> int:
    """Store what the lines say, under their ids, so that it may be done again; how many messages that were.

    Raises:
        FatalError: a line is wrong, which the error names, or no node answered. What came before may be stored.
    """
    count = 0
    sent: list[asyncio.Future[StoredAll]] = []

    def settle(keep: int) -> None:
        nonlocal count
        while len(sent) > keep:
            if count // told_messages != (count := count + client.scheduler.wait(sent.pop(0)).count) // told_messages:
                progress(f"{count} messages")

    try:
        found = _entries(lines)
        for batch in chunks(found, lambda one: text_bytes(one.msg), lift=BATCH_BYTES, seats=BATCH_MESSAGES):
            sent.append(client.scheduler.started(partial(client.append_all, batch)))
            client.scheduler.turn(0.0)  # it leaves now, however long the next line takes
            settle(SENDERS)
        settle(0)
    except ServiceError as error:
        raise FatalError(f"the import ends after {count} messages, begin it again: {error}") from error
    return count


def _entries(lines: Iterable[str]) -> Iterator[Entry]:
    for number, line in zip(itertools.count(1), lines, strict=False):
        if not line.strip():
            continue
        try:
            found = msgspec.json.decode(line, type=Line)
            text_bytes(found.msg)  # raises for what UTF-8 cannot carry
        except (msgspec.MsgspecError, InvalidMessageError) as error:
            raise FatalError(f"line {number} is no message: {error}") from error
        yield Entry(found.id, found.msg)
