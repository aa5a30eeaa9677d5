"""Streamed responses: all messages as JSON or NDJSON, and new messages as server-sent events."""

import time
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from typing import Any, Self, cast

import msgspec
import structlog
from msgspec import UNSET
from msgspec.structs import replace

from common import ids
from common.errors import ServiceError
from common.protocol.content import Entry, content_bytes
from common.protocol.messages import PAGE_BYTES, Page
from common.protocol.search import NO_SEARCH, Search, fields_of, matcher
from facade.api.query import Query
from facade.api.schema import MessageBody
from facade.client.client import Client
from facade.server.scheduler import Event
from facade.streams.subscriptions import Subscriptions

log = structlog.get_logger()

NO_DESCRIPTION = "messages-service is not available"  # replaces its text, so that the messages can still be read
KEEP_ALIVE_S = 10.0  # without a message until a comment is sent: proxies close connections that are idle for a minute
CHECK_INTERVAL_S = 0.5  # between two checks of the client's token
CHUNK_BYTES = 262_144  # of a streamed body; a page of control characters is 6 MiB of JSON
SEARCH_S = 3.0  # for a page of a search: then it has what was found until then, and a cursor to go on
OVERLAP_MS = 60_000  # messages of at most this age may be in the history and be delivered again


def message_body(entry: Entry) -> MessageBody:
    """A message in the form of the HTTP interface."""
    is_valid = bool(fields_of(entry.fields))
    fields = cast("dict[str, Any]", msgspec.Raw(entry.fields.encode())) if is_valid else UNSET  # it is JSON already
    return MessageBody(entry.id, ids.time_text(entry.id), entry.msg, fields, entry.node or UNSET)


class StreamSemaphore:
    """Limits how many streams are open at once.

    Attributes:
        limit: limit on the open streams.
        open: number of open streams.
    """

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.open = 0

    def acquire(self) -> bool:
        """Count one more stream; at the limit, return False and count nothing."""
        free = self.open < self.limit
        self.open += free
        return free

    def release(self) -> None:
        """Count one stream less."""
        self.open -= 1


class Stream:
    """The body of a streamed response, as an iterator for WSGI.

    The first chunk is made at once, so that an error in it can still set the status of the response.

    Args:
        chunks: the chunks of the body.
        on_close: called once, after the last chunk was sent or the client has left.
    """

    def __init__(self, chunks: Generator[bytes, None, None], on_close: Callable[[], None]) -> None:
        self._chunks = chunks
        self._on_close: Callable[[], None] | None = on_close
        try:
            self._first: bytes | None = next(chunks, b"")
        except BaseException:
            self.close()
            raise

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> bytes:
        first, self._first = self._first, None
        return next(self._chunks) if first is None else first

    def close(self) -> None:
        """End the stream; the server always calls this."""
        self._chunks.close()
        on_close, self._on_close = self._on_close, None
        if on_close:
            on_close()


def pages(client: Client, first: Page, query: Query) -> Iterator[Page]:
    """The first page and all pages that follow it, each from any node.

    Raises:
        ConnectionAbortedError: no node answers. The status has been sent, so only a broken connection shows the client
            that the body is incomplete.
    """
    page = first
    while True:
        yield page
        if (cursor := page.next) is None:
            return
        try:
            page = client.page(**query.bounds(cursor))
        except ServiceError as error:
            log.error("stream aborted", cursor=cursor, reason=error)  # noqa: TRY400 (no defect of ours)
            raise ConnectionAbortedError(str(error)) from error


def searched(client: Client, first: Page, query: Query, *, clock: Callable[[], float] = time.monotonic) -> Page:
    """The first page of a search, filled up by further scans until it is full, everything is read, or SEARCH_S is over.

    It also ends when no node answers, with what was found until then.
    """
    ends_s, found, cursor = clock() + SEARCH_S, list(first.entries), first.next
    while cursor is not None and not _is_full(found, query.limit) and clock() < ends_s:
        try:
            page = client.page(**query.bounds(cursor), limit=query.limit - len(found))
        except ServiceError as error:
            log.warning("search cut short", cursor=cursor, reason=error)
            break
        found += page.entries
        cursor = page.next
    return replace(first, entries=tuple(found), next=cursor)


def _is_full(found: Sequence[Entry], limit: int) -> bool:
    return len(found) >= limit or sum(map(content_bytes, found)) >= PAGE_BYTES


def logs(client: Client, first: Page) -> Generator[bytes, None, None]:
    """The body of `GET /facade`: one JSON object with all texts and the text of the messages service."""
    entries = (entry for page in pages(client, first, Query()) for entry in page.entries)
    yield b'{"logs":['
    yield from joined((b"," if number else b"") + msgspec.json.encode(one.msg) for number, one in enumerate(entries))
    yield b'],"message":' + msgspec.json.encode(_description(client)) + b"}"


def joined(parts: Iterable[bytes]) -> Iterator[bytes]:
    """Parts as chunks of about CHUNK_BYTES, or one larger part, so that no response holds a whole page as JSON."""
    chunk, size = list[bytes](), 0
    for part in parts:
        chunk.append(part)
        size += len(part)
        if size >= CHUNK_BYTES:
            yield b"".join(chunk)
            chunk, size = [], 0
    if chunk:
        yield b"".join(chunk)


def _description(client: Client) -> str:
    """The text of the messages service, or a replacement if it does not answer."""
    try:
        return client.description()
    except ServiceError as error:
        log.warning("no text from the messages service", reason=error)
        return NO_DESCRIPTION


def ndjson(client: Client, first: Page, query: Query) -> Generator[bytes, None, None]:
    """All messages as NDJSON: one JSON object per line."""
    for page in pages(client, first, query):
        if not page.entries and page.next:
            yield b"\n"  # while a search finds nothing: the client gets the headers, and it is noticed if it leaves
        yield from joined(msgspec.json.encode(message_body(entry)) + b"\n" for entry in page.entries)


def events(
    client: Client,
    subscriptions: Subscriptions,
    *,
    after: str | None,
    reconnected: bool,
    search: Search = NO_SEARCH,
    must_end: Callable[[], bool],
    closed: Event | None = None,
    keep_alive_s: float = KEEP_ALIVE_S,
    check_interval_s: float = CHECK_INTERVAL_S,
    clock: Callable[[], float] = time.monotonic,
    now_ms: Callable[[], int] = ids.now_ms,
) -> Generator[bytes, None, None]:
    """Server-sent events: the messages after an id, then new messages as they arrive.

    Args:
        client: reads the history.
        subscriptions: delivers new messages.
        after: the id after which to begin; None for new messages only.
        reconnected: the client was connected before. A message that took long to store may have a lower id than the
            last one that the client received. So the messages of `subscriptions.max_store_ms` before `after` are sent
            again.
        search: what the messages must have.
        must_end: returns True if the client has left, or its token is not valid any more.
        closed: set when the client has left.
        keep_alive_s: seconds without a message after which a comment is sent.
        check_interval_s: seconds between two calls of `must_end`; it may be long if there are no tokens, because
            `closed` ends the stream at once.
        clock: seconds from any start.
        now_ms: milliseconds since 1970.
    """
    with subscriptions.subscribed() as subscription:
        if closed:
            closed.then(subscription.end)
        cursor = EventCursor(after or ids.first_id(now_ms()), subscriptions.max_store_ms, now_ms)
        yield b"retry: 1000\n\n"
        sent: set[str] = set()
        found = matcher(search)
        if after is not None:
            overlap_ms = now_ms() - OVERLAP_MS
            begin = ids.last_id(max(ids.time_ms(after) - subscriptions.max_store_ms, 1)) if reconnected else after
            for page in pages(client, Page(entries=(), next=begin, node="-"), Query(after=begin, search=search)):
                if must_end():
                    return
                sent |= {entry.id for entry in page.entries if ids.time_ms(entry.id) > overlap_ms}
                if page.entries:
                    yield from _events(page.entries, cursor)
                elif page.next not in (None, begin):  # a search that finds nothing for long
                    yield cursor.line(page.next) + b"\n"
        idle_since_s = clock()
        while not must_end() and (entries := subscription.take(check_interval_s)) is not None:
            new = [entry for entry in entries if entry.id not in sent and found.matches(entry)]
            sent.difference_update(entry.id for entry in entries)
            if new or clock() - idle_since_s > keep_alive_s:
                yield from _events(new, cursor) if new else [b": still here\n\n"]
                idle_since_s = clock()


class EventCursor:
    """The ids of events, from which a client that reconnects goes on.

    An event has no id if its own is far behind, as that of a record with an old time, or in the future.

    Args:
        newest: the id from which on events are sent.
        late_ms: milliseconds that an id may be behind; after a reconnect, so many are repeated.
        now_ms: milliseconds since 1970.
    """

    def __init__(self, newest: str, late_ms: int, now_ms: Callable[[], int]) -> None:
        self._newest_ms = ids.time_ms(newest)
        self._late_ms = late_ms
        self._now_ms = now_ms

    def line(self, message_id: str) -> bytes:
        """The line with an id, or nothing if the message is too old or in the future."""
        made_ms = ids.time_ms(message_id)
        if not self._newest_ms - self._late_ms <= made_ms <= self._now_ms():
            return b""
        self._newest_ms = max(made_ms, self._newest_ms)
        return b"id: %b\n" % message_id.encode()


def _events(entries: Iterable[Entry], cursor: EventCursor) -> Iterator[bytes]:
    return joined(
        b"%bdata: %b\n\n" % (cursor.line(entry.id), msgspec.json.encode(message_body(entry))) for entry in entries
    )
