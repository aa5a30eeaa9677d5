"""Tests of common.rpc.zmq.connection."""

import pytest
import zmq

from common.errors import UnreachableError
from common.rpc.zmq.connection import Connection
from common.rpc.zmq.sockets import new_context


def test_a_connection_without_free_sockets_is_unreachable() -> None:
    """The socket and its monitor each need one; after the error none stays open, or the context could not terminate."""
    for sockets in (1, 2):
        context = new_context()
        context.set(zmq.MAX_SOCKETS, sockets)
        with pytest.raises(UnreachableError, match="no connection can be made: Too many open files"):
            Connection(context, "127.0.0.1:9", (50, 400), None, None)
        context.term()
