"""Tests of common.rpc.memory: the faults of the in-memory transport."""

import pytest

from common.errors import DisconnectedError, TimedOutError, UnreachableError
from common.protocol.messages import Ping
from common.rpc.memory import MemoryTransport
from tests.support.servers import READY, handle


def test_an_address_can_be_killed_hung_cut_and_revived() -> None:
    """The errors are those of the real transport, and a timeout takes no real time."""
    waited_s: list[float] = []
    transport = MemoryTransport({"a:1": handle}, sleep=waited_s.append)

    transport.kill("a:1")
    with pytest.raises(UnreachableError):
        transport.call("a:1", Ping(), timeout_s=1.0)
    transport.revive("a:1")
    transport.hang("a:1")
    with pytest.raises(TimedOutError):
        transport.call("a:1", Ping(), timeout_s=1.0)
    transport.revive("a:1")
    transport.cut("a:1")
    with pytest.raises(DisconnectedError):
        transport.call("a:1", Ping(), timeout_s=1.0)
    transport.revive("a:1")
    assert READY == transport.call("a:1", Ping(), timeout_s=1.0)
    assert [1.0] == waited_s
    assert [("a:1", Ping())] * 4 == transport.called
