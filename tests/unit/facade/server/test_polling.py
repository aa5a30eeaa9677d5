"""Tests of facade.server.polling."""

import socket
import time

from common.hostport import split
from facade.server.scheduler import Scheduler
from tests.support.servers import get, hello, serving_http
from tests.support.waiting import eventually


def test_urgent_data_does_not_make_the_loop_spin() -> None:
    """No request reads urgent data, so epoll would report it in each turn."""
    scheduler = Scheduler()
    with (
        serving_http(hello, scheduler=scheduler) as running,
        socket.create_connection(split(running.address), timeout=10.0) as client,
    ):
        assert b"hello" == get(client)
        client.send(b"!", socket.MSG_OOB)
        before, ends_s = scheduler.turns, time.monotonic() + 0.3
        eventually(lambda: time.monotonic() > ends_s)
        assert scheduler.turns - before < 20
