"""The connection of a client: reads requests, sends responses, and rejects requests that are not valid."""

import functools
import time
from collections.abc import Callable
from functools import partial
from http import HTTPStatus
from typing import Any

import structlog
from waitress.channel import HTTPChannel
from waitress.task import ErrorTask, Task, WSGITask
from waitress.utilities import build_http_date

from common.config import Limits
from common.telemetry import request_context
from facade.api import problem
from facade.server import load_shedding, validation
from facade.server.parser import Parser
from facade.server.scheduler import CONNECTION_CLOSED
from facade.server.validation import Rejection

log = structlog.get_logger()

UNSENT_BYTES = 1_048_576  # limit on the unread bytes of a response; above it the request waits
IDLE_S = 120.0  # before a connection without a request is closed; waitress measures it with a clock that may be set
SPARE_S = 1.0  # time to receive a request on a spare connection, so that the next client gets one


@functools.lru_cache(maxsize=256)
def _title(name: str) -> str:
    """The name of a header in title case: Content-Type for content-type."""
    return "-".join(part.capitalize() for part in name.split("-"))


@functools.lru_cache(maxsize=2)
def _date(second: int) -> str:
    return str(build_http_date(second))


def _head(task: Task) -> bytes:
    """The head of a response; replaces `Task.build_response_header`, and takes a quarter of its time.

    The connection is closed after a response without a length (also 204 and 304) to another method than HEAD, after a
    request of HTTP/1.0 without `Connection: keep-alive`, and after a request with `Connection: close`.
    """
    connection = task.request.headers.get("CONNECTION", "").lower()
    has_length, has_body, is_http_1_0 = task.content_length is not None, task.has_body, task.version == "1.0"
    is_head = task.request.command == "HEAD"  # its response ends with its head
    is_delimited = is_head or (has_length and has_body)
    if not is_delimited or connection == "close" or (is_http_1_0 and connection != "keep-alive"):
        task.set_close_on_finish()
    lines = [f"HTTP/{task.version} {task.status}", f"Date: {_date(int(task.start_time))}"]
    lines += [f"{_title(name)}: {value}" for name, value in task.response_headers if name.lower() != "content-length"]
    if has_body and has_length:
        lines.append(f"Content-Length: {task.content_length}")
    elif has_body and not is_http_1_0:
        lines.append("Transfer-Encoding: chunked")
        task.chunked_response = not is_head
    if is_http_1_0 and not task.close_on_finish:
        lines.append("Connection: Keep-Alive")
    return "\r\n".join((*lines, "", "")).encode("latin-1")


class ProblemTask(ErrorTask):  # type: ignore[misc]  # waitress ships no types
    """Answers a rejected request with a problem document, as the application does."""

    build_response_header = _head

    def execute(self) -> None:
        """Write the problem document and close the connection."""
        error = self.request.error
        headers = getattr(self.request, "headers", {})
        headers.pop("CONNECTION", None)  # else a response to HTTP/1.0 would keep the connection
        source = request_context.from_headers(
            headers.get("X_REQUEST_ID"), headers.get("TRACEPARENT"), headers.get("TRACESTATE")
        )
        request_context.set_current(source)
        if error.code != HTTPStatus.SERVICE_UNAVAILABLE:  # under overload these lines would flood the log
            log.info("request refused", status=error.code, reason=error.body)
        reason = validation.rejection_message(error.code, error.body, self.channel.limits)
        body = problem.body(error.code, reason, path=self.request.path)
        self.status = f"{error.code} {error.reason}"
        self.response_headers.extend(problem.headers(error.code))
        self.response_headers += [("X-Request-ID", source.request_id), *problem.SECURITY]
        self.set_close_on_finish()
        self.content_length = len(body)
        self.write(b"" if self.request.command == "HEAD" else body)


class ResponseTask(WSGITask):  # type: ignore[misc]
    """Runs the application and sends its response."""

    build_response_header = _head

    def get_environment(self) -> dict[str, Any]:
        """Add an event that is set when the connection is closed, so that the application need not poll."""
        environ: dict[str, Any] = super().get_environment()
        environ[CONNECTION_CLOSED] = self.channel.closed
        return environ

    def write(self, data: bytes) -> None:
        """Write a part of the body; the headers and the first part are sent together."""
        self.channel.held = not self.wrote_header
        try:
            super().write(data)
        finally:
            self.channel.release()

    def start(self) -> None:
        """Start the response; if the server drains or the connection is spare, have it closed afterwards."""
        super().start()
        if self.channel.spare or not self.channel.server.accepting:
            self.request.headers.pop("CONNECTION", None)
            self.set_close_on_finish()


class Channel(HTTPChannel):  # type: ignore[misc]
    """The connection of a client.

    Attributes:
        spare: the connection exceeds the limit, and may only request health and status.
        closed: an event that is set when the connection is closed.
        held: output is held back, to be sent together with the output that follows.
        half_closed: the client will send nothing more, and may still read (`nc -N` does so).
        began_s: when the first byte of the current request arrived.
        clock: seconds from any start; a step of the system's clock does not move it.
    """

    connected: bool
    request: Parser | None
    notifies = True  # this class calls `Polled.changed`
    task_class = ResponseTask
    error_task_class = ProblemTask

    def __init__(self, *args: Any, limits: Limits, clock: Callable[[], float] = time.monotonic, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.limits = limits
        self.clock = clock
        self.parser_class = partial(Parser, url_bytes=limits.url_bytes)
        self.spare = len(self.server.active_channels) > limits.connections
        self.began_s = self._active_s = clock()
        self._received_anything = False
        self.closed = self.server.scheduler.event()
        self.held = self.half_closed = False
        self._room = self.server.scheduler.event()  # set when a waiting writer may continue

    def received(self, data: bytes) -> bool:
        """Parse received bytes, and note when a request begins."""
        before = self.request
        taken = super().received(data)
        self._received_anything = True
        self._active_s = self.clock()
        if self.request is not before:
            self.began_s = self._active_s
        return bool(taken)

    def recv(self, buffer_size: int) -> bytes:
        """Receive bytes, b"" at their end; waitress would close the connection there."""
        return bytes(self.socket.recv(buffer_size))

    def handle_read(self) -> None:
        """Receive bytes. At their end, the client may still read: answer the complete requests before closing.

        An event stream, which has no end of its own, ends then.
        """
        super().handle_read()
        if not self.connected and not self.closed.is_set():  # the end was received
            self.connected = self.half_closed = True
            self.closed.set()
            self._close_if_answered()

    def readable(self) -> bool:
        """True if more bytes may be received."""
        return not self.half_closed and bool(super().readable())

    def time_out(self) -> None:
        """Answer a request that was not complete in time with 408; close a connection without a request."""
        if self.request is None:
            self.handle_close()
            return
        self.request.error = Rejection(HTTPStatus.REQUEST_TIMEOUT)
        self.request.completed = True
        self.requests.append(self.request)
        self.request = None
        self.server.add_task(self)

    def _close_if_answered(self) -> None:
        """Close a half-closed connection once all its complete requests are answered. The caller notes the change."""
        if self.half_closed and not self.requests:
            self.close_when_flushed = True

    def refuse_at_once(self, message: str) -> bool:
        """Send a refusal without starting a task, and keep the connection; False if that is not possible now."""
        request = self.requests[0]
        # A second request that is being read may expect 100 Continue, so then there is no early answer.
        is_only_request = len(self.requests) == 1 and self.request in (None, request)
        all_sent = not (self.total_outbufs_len or self.close_when_flushed)
        keeps_connection = request.version == "1.1" and not request.connection_close and self.server.accepting
        if not (is_only_request and all_sent and keeps_connection) or request.command == "HEAD":
            return False
        self.requests.pop().close()
        refusal = load_shedding.refusal(request.path, request.headers, message)
        if self.send(refusal) != len(refusal):  # the client does not read its responses
            self.will_close = True
        return True

    def release(self) -> None:
        """Send the output that was held back."""
        if self.held:
            self.held = False
            self._flush_exception(self._flush_some, do_close=False)

    def handle_write(self) -> None:
        """Send buffered output, and wake a waiting writer if there is room again."""
        super().handle_write()
        self._notify_writer()

    def handle_close(self) -> None:
        """Close the connection, wake a waiting writer, and set `closed`."""
        super().handle_close()
        self._notify_writer()
        self.closed.set()

    def service(self) -> None:
        """Answer the first request in the queue of this connection."""
        try:
            super().service()
        finally:
            self._active_s = self.clock()
            self._close_if_answered()
            self._map.changed(self._fileno)

    def _flush_some(self, do_close: bool = True) -> bool:
        if self.held:
            return False
        self._map.changed(self._fileno)
        sent = bool(super()._flush_some(do_close))
        if sent:
            self._active_s = self.clock()
        return sent

    def _flush_outbufs_below_high_watermark(self) -> None:
        """Wait until the client has read enough, while other requests run; waitress would block the loop here."""
        self.release()
        while self.connected and self.total_outbufs_len > UNSENT_BYTES:
            self._room.clear()
            self._room.wait()

    def _notify_writer(self) -> None:
        if not self.connected or self.total_outbufs_len <= UNSENT_BYTES:
            self._room.set()

    @property
    def late(self) -> bool:
        """True if a request takes too long to arrive; the duration of the previous response does not count."""
        is_timed = self.request or self.spare or not self._received_anything
        if self.requests or not is_timed:
            return False
        allowed_s = SPARE_S if self.spare else self.limits.receive_s
        if self.request and self.request.headers_finished:
            allowed_s += self.request.body_received / self.limits.body_bytes_per_s
        return self.clock() - self.began_s > allowed_s

    @property
    def stalled(self) -> bool:
        """True if the client has read nothing of its response for too long."""
        return bool(self.total_outbufs_len) and self.clock() - self._active_s > self.limits.stalled_s

    @property
    def idle(self) -> bool:
        """True if there was no request for too long."""
        return not self.requests and self.clock() - self._active_s > IDLE_S

    @property
    def busy(self) -> bool:
        """True while a request is read or answered, or a response is sent."""
        return bool(self.requests or self.request or self.total_outbufs_len)
