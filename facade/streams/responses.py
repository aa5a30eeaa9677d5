"""Answers that go on: everything as NDJSON, and what comes as server-sent events."""

import itertools
import time
from collections.abc import Callable, Generator, Iterable, Iterator
from typing import Self

import msgspec
import structlog
from msgspec import UNSET

from common import ids
from common.errors import ServiceError
from common.wire import Entry, Page
from facade.api.query import Query
from facade.client.client import Client
from facade.documents.schema import Message
from facade.server.scheduler import Event
from facade.streams.subscriptions import Heard, Live

log = structlog.get_logger()

NO_DESCRIPTION = "messages-service is not available"  # in the place of its text, so that the log can still be read
BEAT_S = 10.0  # of silence, then a comment is sent: proxies cut a connection that says nothing for a minute
LOOK_S = 0.5  # between two checks of the token of a client
OVERLAP_MS = 60_000  # of what history had and may come again: what was made so long before the follower came


def form(entry: Entry | Heard) -> Message:
    """A message as JSON has it; one that has just come has its node."""
    node = entry.node if isinstance(entry, Heard) and entry.node else UNSET
    return Message(entry.id, ids.time_text(entry.id), entry.msg, node)


class Slots:
    """So many streams at once; `taken` are open now."""

    def __init__(self, count: int) -> None:
        self.count = count
        self.taken = 0

    def take(self) -> bool:
        """Whether one was free; it is taken then."""
        free = self.taken < self.count
        self.taken += free
        return free

    def give_back(self) -> None:
        """It is free again."""
        self.taken -= 1


class Stream:
    """A body that goes on: its first chunk is made now, so that what fails at once can still be told by the status.

    Args:
        chunks: of the body.
        then: what is to be done when the last one is sent, or the client has left.
    """

    def __init__(self, chunks: Generator[bytes, None, None], then: Callable[[], None]) -> None:
        self._chunks = chunks
        self._then: Callable[[], None] | None = then
        try:
            self._first: bytes | None = next(chunks)
        except BaseException:
            self.close()
            raise

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> bytes:
        first, self._first = self._first, None
        return next(self._chunks) if first is None else first

    def close(self) -> None:
        """The server calls it at the end, whatever the end is."""
        self._chunks.close()
        then, self._then = self._then, None
        if then:
            then()


def pages(client: Client, first: Page, query: Query) -> Iterator[Page]:
    """That page and all that follow it, each from any node.

    Raises:
        ConnectionAbortedError: no node answers; the status is sent already, so only a broken connection can say that
            the body is not whole.
    """
    page = first
    while True:
        yield page
        if (cursor := page.next) is None:
            return
        after, before = (query.after, cursor) if query.newest_first else (cursor, query.before)
        try:
            page = client.page(after, before=before, newest_first=query.newest_first)
        except ServiceError as error:
            log.error("a stream broke off", at=cursor, reason=error)  # noqa: TRY400 (expected)
            raise ConnectionAbortedError(str(error)) from error


def logs(client: Client, first: Page) -> Generator[bytes, None, None]:
    """All texts, and that of the messages service, as one JSON object: what `GET /facade` answers."""
    yield b'{"logs":[' + _texts(first)
    for page in itertools.islice(pages(client, first, Query()), 1, None):
        if page.entries:
            yield b"," + _texts(page)
    yield b'],"message":' + msgspec.json.encode(_description(client)) + b"}"


def _texts(page: Page) -> bytes:
    return msgspec.json.encode([entry.msg for entry in page.entries])[1:-1]


def _description(client: Client) -> str:
    try:
        return client.description()
    except ServiceError as error:
        log.warning("no text of the messages service", reason=error)
        return NO_DESCRIPTION


def ndjson(client: Client, first: Page, query: Query) -> Generator[bytes, None, None]:
    """One JSON object per line."""
    for page in pages(client, first, query):
        yield b"".join(msgspec.json.encode(form(entry)) + b"\n" for entry in page.entries)


def events(
    client: Client,
    live: Live,
    *,
    after: str | None,
    again: bool,
    ended: Callable[[], bool],
    gone: Event | None = None,
    beat_s: float = BEAT_S,
    look_s: float = LOOK_S,
) -> Generator[bytes, None, None]:
    """Server-sent events: what follows the id `after`, if there is one, and then all that comes.

    Args:
        client: reads what was before.
        live: tells what comes.
        after: where to begin; None for what comes only.
        again: the client was here before. What it was not told, because it was slower than its neighbour, may have an
            id below the last one that it was told: so the last `settle_ms` before that come again.
        ended: whether the client has left, or may read no more.
        gone: set when the client has left.
        beat_s: of silence, in seconds; then a comment is sent.
        look_s: between two looks whether it has ended, in seconds; where there are no tokens, `gone` alone ends it.
    """
    with live.following() as follower:
        if gone:
            gone.then(follower.end)
        yield b"retry: 1000\n\n"
        told: set[str] = set()
        if after is not None:
            begin_ms = ids.now_ms() - OVERLAP_MS
            begin = ids.last_id(max(ids.time_ms(after) - live.settle_ms, 1)) if again else after
            for page in pages(client, Page(entries=(), next=begin, node="-"), Query(after=begin)):
                if ended():
                    return
                told |= {entry.id for entry in page.entries if ids.time_ms(entry.id) > begin_ms}
                yield _events(page.entries)
        silent_since = time.monotonic()
        while not ended() and (entries := follower.take(look_s)) is not None:
            new = [entry for entry in entries if entry.id not in told]
            told.difference_update(entry.id for entry in entries)
            if new or time.monotonic() - silent_since > beat_s:
                yield _events(new) or b": still here\n\n"
                silent_since = time.monotonic()


def _events(entries: Iterable[Entry | Heard]) -> bytes:
    return b"".join(
        b"id: %b\ndata: %b\n\n" % (entry.id.encode(), msgspec.json.encode(form(entry))) for entry in entries
    )
