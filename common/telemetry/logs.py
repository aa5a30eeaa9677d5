"""The configuration of logging: readable lines on a terminal, one JSON object per line everywhere else."""

import contextlib
import json
import logging
import os
import select
import stat
import sys
import threading
from collections.abc import Iterator
from typing import TextIO

import msgspec
import structlog
from structlog.typing import EventDict, Processor, WrappedLogger

from common.telemetry import request_context


def configure(service: str, stream: TextIO | None = None) -> None:
    """Write all log lines of this process, also those of libraries, to a stream (default: standard error)."""
    stream = stream or sys.stderr
    shared: list[Processor] = [
        _add_service(service),
        structlog.processors.add_log_level,
        _add_request_context,
        structlog.processors.TimeStamper(fmt="iso", utc=True, key="time"),
    ]
    global _writer  # noqa: PLW0603 (structlog's configuration is global, too)
    _writer = writer = _LineWriter(stream)
    rendering = _console_renderers() if stream.isatty() else _json_renderers()
    structlog.configure(
        processors=[*shared, *rendering],
        wrapper_class=structlog.make_filtering_bound_logger(logging.INFO),
        logger_factory=lambda *_: writer,
        cache_logger_on_first_use=True,
    )
    _configure_library_logging(writer, shared, rendering)


def in_one_write() -> contextlib.AbstractContextManager[None]:
    """Write the lines of the block in one write at its end; the block must not await anything."""
    return _writer.buffered() if _writer else contextlib.nullcontext()


class _LineWriter:
    """Writes whole lines. A line that cannot be written (full disk, closed or full pipe) is dropped without an error.

    A pipe that nobody reads never blocks the process: the next line that finds room says how many were dropped.
    """

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream.buffer
        self._dropped = 0
        self._pipe = _poll_of(stream)
        self._lock = threading.Lock()
        self._buffer: list[bytes] | None = None

    def msg(self, line: str | bytes) -> None:
        """Write a line, or buffer it within a `buffered` block."""
        whole = (line if isinstance(line, bytes) else line.encode("utf-8", "backslashreplace")) + b"\n"
        with self._lock:
            if self._buffer is None:
                self._write(whole)
            else:
                self._buffer.append(whole)

    @contextlib.contextmanager
    def buffered(self) -> Iterator[None]:
        """Buffer the lines of the block, and write them together at its end, also if it raises."""
        with self._lock:
            self._buffer = []
        try:
            yield
        finally:
            with self._lock:
                lines, self._buffer = self._buffer, None
                self._write(b"".join(lines or ()))

    def _write(self, whole: bytes) -> None:
        with contextlib.suppress(OSError, ValueError):
            if self._pipe is None:
                self._stream.write(whole)
                self._stream.flush()
            else:
                self._write_to_pipe(self._pipe, whole)

    def _write_to_pipe(self, pipe: select.poll, whole: bytes) -> None:
        """Write as much as the pipe takes at once. A poll promises room for PIPE_BUF bytes."""
        if self._dropped and pipe.poll(0):
            note = {"event": "log lines dropped, nobody reads the pipe", "level": "warning", "lines": self._dropped}
            os.write(self._stream.fileno(), b"\n" + _encoder.encode(note) + b"\n")  # ends a line that was cut
            self._dropped = 0
        for begin in range(0, len(whole), select.PIPE_BUF):
            if not pipe.poll(0):
                self._dropped += whole.count(b"\n", begin)
                return
            os.write(self._stream.fileno(), whole[begin : begin + select.PIPE_BUF])

    debug = info = warning = error = critical = exception = msg


def _poll_of(stream: TextIO) -> "select.poll | None":
    """A poll for room in a pipe; None for files and terminals, and for streams of tests."""
    try:
        if not stat.S_ISFIFO(os.fstat(stream.fileno()).st_mode):
            return None
    except (OSError, ValueError):
        return None
    poll = select.poll()
    poll.register(stream.fileno(), select.POLLOUT)
    return poll


def _console_renderers() -> list[Processor]:
    # `repr` of texts, so that escape codes in a client's message do not reach the terminal.
    return [structlog.dev.ConsoleRenderer(timestamp_key="time", repr_native_str=True)]


def _json_renderers() -> list[Processor]:
    return [structlog.processors.format_exc_info, structlog.processors.JSONRenderer(serializer=_json)]


def _add_service(service: str) -> Processor:
    def add(_logger: WrappedLogger, _method: str, line: EventDict) -> EventDict:
        line["service"] = service
        return line

    return add


def _add_request_context(_logger: WrappedLogger, _method: str, line: EventDict) -> EventDict:
    """Add the current request context, unless the line names its requests itself."""
    if (found := request_context.current()) and "request_id" not in line and "request_ids" not in line:
        line.update(found.fields())
    return line


# The writer of this process; None before `configure`. Standard error belongs to the process, and so does its writer.
_writer: _LineWriter | None = None
_LEADING_FIELDS = ("time", "level", "service", "event")
_encoder = msgspec.json.Encoder(enc_hook=str)


def _json(line: EventDict, **_options: object) -> bytes:
    """A line as JSON; other values become texts, and lone surrogates are escaped, so that no line is lost."""
    try:
        return _encoder.encode({**{name: line[name] for name in _LEADING_FIELDS}, **line})
    except UnicodeEncodeError:
        return json.dumps(line, default=str).encode()


class _LibraryHandler(logging.Handler):
    """Writes the lines of libraries through the writer of this process, so that they do not block it either."""

    def __init__(self, writer: _LineWriter) -> None:
        super().__init__()
        self._writer = writer

    def emit(self, record: logging.LogRecord) -> None:
        """See logging.Handler."""
        self._writer.msg(self.format(record))


def _configure_library_logging(writer: _LineWriter, shared: list[Processor], rendering: list[Processor]) -> None:
    """Format the lines that libraries log with Python's `logging` in the same way."""
    remove = structlog.stdlib.ProcessorFormatter.remove_processors_meta
    handler = _LibraryHandler(writer)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=[*shared, structlog.stdlib.add_logger_name],
            processors=[remove, *rendering[:-1], _text(rendering[-1])],
        )
    )
    logging.basicConfig(level=logging.INFO, handlers=[handler], force=True)


def _text(renderer: Processor) -> Processor:
    """A renderer that returns a string, which Python's `logging` requires."""

    def render(logger: WrappedLogger, method: str, line: EventDict) -> str:
        rendered = renderer(logger, method, line)
        return rendered.decode() if isinstance(rendered, bytes) else str(rendered)

    return render
