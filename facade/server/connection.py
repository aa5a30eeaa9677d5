"""A connection of a client: its requests are read, answered and, when they cannot be, refused."""

import functools
import time
from functools import partial
from http import HTTPStatus
from typing import Any

import structlog
from waitress.channel import HTTPChannel
from waitress.task import ErrorTask, Task, WSGITask
from waitress.utilities import build_http_date

from common import origin
from common.config import Limits
from facade.api import problem
from facade.server import load_shedding, refusal
from facade.server.parser import Parser
from facade.server.scheduler import GONE

log = structlog.get_logger()

UNSENT_BYTES = 1_048_576  # of one answer that its client does not read; then reading the log waits, too
SPARE_S = 1.0  # for a connection beyond the limit, so that there is soon another one


@functools.lru_cache(maxsize=256)
def _title(name: str) -> str:
    """The name of a header with capitals: Content-Type for content-type."""
    return "-".join(part.capitalize() for part in name.split("-"))


@functools.lru_cache(maxsize=2)
def _date(second: int) -> str:
    return str(build_http_date(second))


def _head(task: Task) -> bytes:
    """The head of an answer: what `Task.build_response_header` makes, in a quarter of its time.

    The connection is closed after an answer without a length (also 204 and 304), after one to HTTP/1.0 that does not
    ask to keep it, and after one to a request that asks to close it.
    """
    connection = task.request.headers.get("CONNECTION", "").lower()
    known, body, old = task.content_length is not None, task.has_body, task.version == "1.0"
    if not (known and body) or connection == "close" or (old and connection != "keep-alive"):
        task.set_close_on_finish()
    lines = [f"HTTP/{task.version} {task.status}", f"Date: {_date(int(task.start_time))}"]
    lines += [f"{_title(name)}: {value}" for name, value in task.response_headers if name.lower() != "content-length"]
    if body and known:
        lines.append(f"Content-Length: {task.content_length}")
    elif body and not old:
        lines.append("Transfer-Encoding: chunked")
        task.chunked_response = True
    if old and not task.close_on_finish:
        lines.append("Connection: Keep-Alive")
    return "\r\n".join((*lines, "", "")).encode("latin-1")


class ProblemTask(ErrorTask):  # type: ignore[misc]  # waitress ships no types
    """Answers a request that waitress itself refuses, in the same form as the application does."""

    build_response_header = _head

    def execute(self) -> None:
        """Write the problem document and close the connection."""
        error = self.request.error
        headers = getattr(self.request, "headers", {})
        headers.pop("CONNECTION", None)  # waitress would tell a client of HTTP/1.0 that it is kept, too
        source = origin.received(headers.get("X_REQUEST_ID"), headers.get("TRACEPARENT"))
        origin.begin(source)
        if error.code != HTTPStatus.SERVICE_UNAVAILABLE:  # that would be a flood
            log.info("request refused", status=error.code, reason=error.body)
        body = problem.body(error.code, refusal.message(error.code, error.body, self.channel.limits))
        self.status = f"{error.code} {error.reason}"
        self.response_headers.extend(problem.headers(error.code))
        self.response_headers += [("X-Request-ID", source.request_id), *problem.SECURITY]
        self.set_close_on_finish()
        self.content_length = len(body)
        self.write(b"" if self.request.command == "HEAD" else body)


class LastTask(WSGITask):  # type: ignore[misc]
    """Answers a request. While the server drains, and beyond the limit, its connection is closed afterwards."""

    build_response_header = _head

    def get_environment(self) -> dict[str, Any]:
        """See WSGITask; with the event that the client has left, so that the application need not poll."""
        environ: dict[str, Any] = super().get_environment()
        environ[GONE] = self.channel.gone
        return environ

    def write(self, data: bytes) -> None:
        """Send the headers and the first part of the body together."""
        self.channel.held = not self.wrote_header
        try:
            super().write(data)
        finally:
            self.channel.release()

    def start(self) -> None:
        """Begin the answer."""
        super().start()
        if self.channel.spare or not self.channel.server.accepting:
            self.request.headers.pop("CONNECTION", None)
            self.set_close_on_finish()


class Channel(HTTPChannel):  # type: ignore[misc]
    """A connection of a client; `spare` is one beyond the limit."""

    notifies = True  # it calls `Polled.changed`
    task_class = LastTask
    error_task_class = ProblemTask

    def __init__(self, *args: Any, limits: Limits, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.limits = limits
        self.parser_class = partial(Parser, url_bytes=limits.url_bytes)
        self.spare = len(self.server.active_channels) > limits.connections
        self.began_s = time.monotonic()  # when the first byte of the request came that is being read
        self.gone = self.server.scheduler.event()  # set when the connection is closed
        self.held = False  # what is written waits, for more to be sent with it
        self._room = self.server.scheduler.event()  # set when a writer may go on after a slow client

    def received(self, data: bytes) -> bool:
        """Take more of the requests of this connection."""
        before = self.request
        taken = super().received(data)
        if self.request is not before:
            self.began_s = time.monotonic()
        return bool(taken)

    def refuse_at_once(self, message: str) -> bool:
        """Refuse the request that has come, and go on with the connection; False if this cannot be done now."""
        request = self.requests[0]
        alone = len(self.requests) == 1 and self.request in (None, request)  # another one may expect a Continue
        sent = not (self.total_outbufs_len or self.close_when_flushed)
        goes_on = request.version == "1.1" and not request.connection_close and self.server.accepting
        if not (alone and sent and goes_on) or request.command == "HEAD":
            return False
        self.requests.pop().close()
        told = load_shedding.answer(request.headers, message)
        if self.send(told) != len(told):  # its client does not even read that
            self.will_close = True
        return True

    def release(self) -> None:
        """Send what was held."""
        if self.held:
            self.held = False
            self._flush_exception(self._flush_some, do_close=False)

    def handle_write(self) -> None:
        """Send more; then a waiting writer may go on."""
        super().handle_write()
        self._notify_writer()

    def handle_close(self) -> None:
        """Close; a waiting writer and the application learn that the client has left."""
        super().handle_close()
        self._notify_writer()
        self.gone.set()

    def service(self) -> None:
        """Answer a request."""
        try:
            super().service()
        finally:
            self._map.changed(self._fileno)

    def _flush_some(self, do_close: bool = True) -> bool:
        if self.held:
            return False
        self._map.changed(self._fileno)
        return bool(super()._flush_some(do_close))

    def _flush_outbufs_below_high_watermark(self) -> None:
        """Wait until the client has read enough; other requests go on. waitress would block the loop."""
        self.release()
        while self.connected and self.total_outbufs_len > UNSENT_BYTES:
            self._room.clear()
            self._room.wait()

    def _notify_writer(self) -> None:
        if not self.connected or self.total_outbufs_len <= UNSENT_BYTES:
            self._room.set()

    @property
    def late(self) -> bool:
        """Whether a request takes too long to come, also the first; the time of an answer before it is not counted."""
        if self.requests or not (self.request or self.spare or self.last_activity == self.creation_time):
            return False
        return bool(time.monotonic() - self.began_s > (SPARE_S if self.spare else self.limits.receive_s))

    @property
    def stalled(self) -> bool:
        """Whether its client has taken nothing of an answer for too long."""
        since = time.time() - self.limits.stalled_s  # the clock of waitress' last_activity
        return bool(self.total_outbufs_len and self.last_activity < since)

    @property
    def busy(self) -> bool:
        """Whether something is still to be read, worked on or sent."""
        return bool(self.requests or self.request or self.total_outbufs_len)
