"""waitress with our limits, our form of errors, and a stop that answers what was accepted."""

import errno
import logging
import signal
from collections.abc import Callable
from typing import Any

from waitress.channel import HTTPChannel
from waitress.server import create_server
from waitress.task import ErrorTask

from common.errors import FatalError
from facade import problem
from facade.body import BODY_BYTES

HEADER_BYTES = 16_384  # of all headers of one request
CONNECTIONS = 512  # at once; one more waits in the listening socket


class ProblemTask(ErrorTask):  # type: ignore[misc]  # waitress ships no types
    """Answers a request that waitress itself refuses, in the same form as the application does."""

    def execute(self) -> None:
        """Write the problem document and close the connection."""
        error = self.request.error
        body = problem.body(error.code, f"{error.reason}: {error.body}")
        self.status = f"{error.code} {error.reason}"
        self.response_headers.extend(problem.headers(error.code))
        self.set_close_on_finish()
        self.content_length = len(body)
        self.write(body)


class Channel(HTTPChannel):  # type: ignore[misc]
    """A connection of a client."""

    error_task_class = ProblemTask


def create(application: Callable[..., Any], *, host: str, port: int, threads: int) -> Any:
    """A bound waitress server; raises FatalError when it cannot be bound.

    waitress' own defaults are a body of 1 GiB, headers of 256 KiB, 100 connections and 4 threads.
    """
    try:
        server = create_server(
            application,
            host=host,
            port=port,
            threads=threads,
            ident=None,
            connection_limit=CONNECTIONS,
            max_request_body_size=BODY_BYTES,
            max_request_header_size=HEADER_BYTES,
            log_socket_errors=False,  # a client that left is not our error
        )
    except OSError as error:
        taken = error.errno == errno.EADDRINUSE
        raise FatalError(
            f"cannot listen at {host}:{port}: {'the port is taken' if taken else error.strerror}"
        ) from error
    server.channel_class = Channel
    logging.getLogger("waitress.queue").setLevel(logging.ERROR)  # it warns whenever a request waits for a thread
    return server


def run(server: Any) -> None:
    """Serve until SIGTERM or SIGINT."""
    signal.signal(signal.SIGTERM, _interrupt)
    server.run()


def _interrupt(_number: int, _frame: Any) -> None:
    raise KeyboardInterrupt
