"""How a line of the log looks: for a person on a terminal, one JSON object per line everywhere else."""

import contextlib
import json
import logging
import sys
import threading
from collections.abc import Iterator
from typing import TextIO

import msgspec
import structlog
from structlog.typing import EventDict, Processor, WrappedLogger

from common.telemetry import request_context


def configure(service: str, stream: TextIO | None = None) -> None:
    """Send all lines of this process, also those of libraries, to a stream (standard error); called by `__main__`."""
    stream = stream or sys.stderr
    shared: list[Processor] = [
        _of_service(service),
        structlog.processors.add_log_level,
        _with_origin,
        structlog.processors.TimeStamper(fmt="iso", utc=True, key="time"),
    ]
    global _lines  # noqa: PLW0603 (structlog's configuration is one of the process, too)
    _lines = lines = _Lines(stream)
    rendering = _for_person() if stream.isatty() else _for_machine()
    structlog.configure(
        processors=[*shared, *rendering],
        wrapper_class=structlog.make_filtering_bound_logger(logging.INFO),
        logger_factory=lambda *_: lines,
        cache_logger_on_first_use=True,
    )
    _of_libraries(stream, shared, rendering)


def in_one_write() -> contextlib.AbstractContextManager[None]:
    """Write the lines of the block together at its end; the block must not await anything."""
    return _lines.held() if _lines else contextlib.nullcontext()


class _Lines:
    """Writes whole lines; one that cannot be written (a full disk, a pipe that nobody reads) is lost, and no more."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream.buffer
        self._lock = threading.Lock()
        self._held: list[bytes] | None = None

    def msg(self, line: str | bytes) -> None:
        """Write a line."""
        whole = (line if isinstance(line, bytes) else line.encode("utf-8", "backslashreplace")) + b"\n"
        with self._lock:
            if self._held is None:
                self._write(whole)
            else:
                self._held.append(whole)

    @contextlib.contextmanager
    def held(self) -> Iterator[None]:
        """Write the lines of the block together."""
        with self._lock:
            self._held = []
        try:
            yield
        finally:
            with self._lock:
                held, self._held = self._held, None
                self._write(b"".join(held or ()))

    def _write(self, whole: bytes) -> None:
        with contextlib.suppress(OSError, ValueError):
            self._stream.write(whole)
            self._stream.flush()

    debug = info = warning = error = critical = exception = msg


def _for_person() -> list[Processor]:
    return [structlog.dev.ConsoleRenderer(timestamp_key="time", repr_native_str=True)]  # no escape codes of a client


def _for_machine() -> list[Processor]:
    return [structlog.processors.format_exc_info, structlog.processors.JSONRenderer(serializer=_json)]


def _of_service(service: str) -> Processor:
    def add(_logger: WrappedLogger, _method: str, line: EventDict) -> EventDict:
        line["service"] = service
        return line

    return add


def _with_origin(_logger: WrappedLogger, _method: str, line: EventDict) -> EventDict:
    """Say for which request it is; a line that says so itself is about others."""
    if (found := request_context.current()) and "request_id" not in line and "request_ids" not in line:
        line["request_id"], line["traceparent"] = found
    return line


_lines: _Lines | None = None  # of this process, once it is configured
_FIRST = ("time", "level", "service", "event")
_encoder = msgspec.json.Encoder(enc_hook=str)


def _json(line: EventDict, **_options: object) -> bytes:
    """A line as JSON; what is no JSON value as its text, and a text that is no Unicode escaped: no line is lost."""
    try:
        return _encoder.encode({**{name: line[name] for name in _FIRST}, **line})
    except UnicodeEncodeError:
        return json.dumps(line, default=str).encode()


def _of_libraries(stream: TextIO, shared: list[Processor], rendering: list[Processor]) -> None:
    """Have what libraries log with Python's own `logging` look the same."""
    remove = structlog.stdlib.ProcessorFormatter.remove_processors_meta
    handler = logging.StreamHandler(stream)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=[*shared, structlog.stdlib.add_logger_name],
            processors=[remove, *rendering[:-1], _text(rendering[-1])],
        )
    )
    logging.basicConfig(level=logging.INFO, handlers=[handler], force=True)


def _text(renderer: Processor) -> Processor:
    """A renderer whose line is a string, as Python's `logging` wants it."""

    def render(logger: WrappedLogger, method: str, line: EventDict) -> str:
        rendered = renderer(logger, method, line)
        return rendered.decode() if isinstance(rendered, bytes) else str(rendered)

    return render
