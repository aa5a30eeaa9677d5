"""Tests of nodes.grid beyond the contract of a store."""

import asyncio
import logging
from itertools import pairwise
from unittest.mock import ANY

import pytest
from hazelcast.client import HazelcastClient
from hazelcast.errors import TargetDisconnectedError
from hazelcast.predicate import equal
from hazelcast.proxy.map import BlockingMap
from structlog.typing import EventDict

from common import ids
from common.errors import FatalError, StoreError
from nodes import grid
from scripts.launcher import Cluster

YEAR_MS = 365 * 86_400_000


def test_windows_cover_everything_and_grow() -> None:
    """Each window begins where the one before ended; the last has no end; a year of silence is a few windows."""
    after = ids.new_id()
    now_ms = ids.time_ms(after) + YEAR_MS
    up, down = list(grid.windows(after, "", now_ms=now_ms)), list(grid.windows_down(after, "", now_ms=now_ms))

    assert after == up[0][0] == down[-1][0]
    assert "" == up[-1][1] == down[0][1]
    for found in (up, down[::-1]):
        assert all(ids.previous(lower[1]) == upper[0] for lower, upper in pairwise(found))
        assert all(below for _, below in found[:-1])
        assert len(found) < 20
    assert grid.WINDOW_MS == ids.time_ms(up[0][1]) - ids.time_ms(after) == now_ms - ids.time_ms(down[0][0]) - 1


def test_windows_end_at_their_bounds() -> None:
    """Nothing is asked for beyond what is wanted."""
    now_ms = 1_700_000_000_000
    after, before = ids.last_id(now_ms - YEAR_MS), ids.first_id(now_ms - YEAR_MS + 100)

    assert [(after, ids.first_id(now_ms - YEAR_MS + 64)), (ANY, before)] == list(
        grid.windows(after, before, now_ms=now_ms)
    )
    assert [(ANY, before), (after, ANY)] == list(grid.windows_down(after, before, now_ms=now_ms))


def test_before_the_first_message_there_is_one_window() -> None:
    """Without a cursor, and for a cursor from a clock that is ahead, there is one window without an end."""
    assert [("", "")] == list(grid.windows("", "", now_ms=1_700_000_000_000))
    ahead = ids.last_id(1_800_000_000_000)
    assert [(ahead, "")] == list(grid.windows(ahead, "", now_ms=1_700_000_000_000))


def test_a_call_that_does_not_end_is_a_store_error() -> None:
    """No call of the client takes longer than its deadline, and its errors are ours."""

    async def stuck() -> None:
        await asyncio.Event().wait()

    async def broken() -> None:
        raise TargetDisconnectedError("gone\n\tat com.hazelcast")

    with pytest.raises(StoreError, match=r"Hazelcast did not answer in 0\.9 s"):
        asyncio.run(grid._within(stuck()))
    with pytest.raises(StoreError, match=r"^Hazelcast failed: gone$"):
        asyncio.run(grid._within(broken()))


def test_no_cluster_is_one_sentence() -> None:
    """A client without any member gives up within its limit, and says whom it asked."""

    async def run() -> None:
        async with asyncio.timeout(20):
            await grid.HazelcastStore.connect("nobody", ["127.0.0.1:9"], connect_s=0.5)

    with pytest.raises(FatalError, match=r"no Hazelcast member of 'nobody' at 127\.0\.0\.1:9"):
        asyncio.run(run())


def test_abandoned_calls_are_quiet_and_defects_are_not(
    logged: list[EventDict], caplog: pytest.LogCaptureFixture
) -> None:
    """What the client's own tasks raise costs one line of debug; anything else is reported as ever."""
    loop = asyncio.new_event_loop()
    with caplog.at_level(logging.ERROR):
        grid.quiet_abandoned_calls(loop, {"message": "never retrieved", "exception": TargetDisconnectedError("gone")})
        grid.quiet_abandoned_calls(loop, {"message": "a defect", "exception": ZeroDivisionError("oops")})
    loop.close()

    assert [("debug", "gone")] == [(line["log_level"], line["reason"]) for line in logged]
    assert "a defect" in caplog.text


def test_what_is_no_message_is_left_out_and_reads_go_on(cluster: Cluster, logged: list[EventDict]) -> None:
    """Entries that another client put into the map stop nobody from reading the messages around them."""
    settings = cluster.settings.hazelcast

    async def run() -> None:
        store = await grid.HazelcastStore.connect(settings.cluster_name, settings.clients)
        before, first, second = ids.new_id(), ids.new_id(), ids.new_id()
        foreign = {f"{first[:-1]}{letter}x": "not a message" for letter in "0123456789"}
        foreign_map = store._map
        try:
            await store.append(first, "first")
            await store.append(second, "second")
            for key, value in foreign.items():
                await foreign_map.put(key, value)
            assert ["first", "second"] == [entry.msg for entry in await store.read(before, 2)]
        finally:
            for key in foreign:
                await foreign_map.delete(key)
            await store.close()

    asyncio.run(run())
    assert {"an entry of the map is no message and is left out"} == {line["event"] for line in logged if "key" in line}


def test_any_hazelcast_client_reads_the_map_as_it_stands(cluster: Cluster) -> None:
    """Key and value are plain text: another client, without any of our code, finds a message by a query for its id.

    Only `get` needs our partition key.
    """

    async def store() -> str:
        opened = await grid.HazelcastStore.connect(
            cluster.settings.hazelcast.cluster_name, cluster.settings.hazelcast.clients
        )
        message_id = ids.new_id()
        await opened.append(message_id, "plain")
        assert 3 == len(opened.view())
        await opened.close()
        return message_id

    message_id = asyncio.run(store())
    client = HazelcastClient(
        cluster_name=cluster.settings.hazelcast.cluster_name, cluster_members=list(cluster.settings.hazelcast.clients)
    )
    try:
        messages: BlockingMap[str, str] = client.get_map("messages-map").blocking()
        assert [(message_id, "plain")] == messages.entry_set(equal("__key", message_id))
        assert "plain" == messages.get(grid.Key(message_id))
    finally:
        client.shutdown()
