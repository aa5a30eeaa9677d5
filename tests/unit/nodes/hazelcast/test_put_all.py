"""Tests of nodes.hazelcast.put_all, with a map in memory; tests/cluster/hazelcast/test_map.py has a real one."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any, cast

import pytest
from hazelcast.asyncio import HazelcastClient, Map
from hazelcast.errors import ClientOfflineError

from nodes.hazelcast import put_all
from nodes.hazelcast.map import Projection
from nodes.hazelcast.text import Text
from tests.support.nodes.projection import becomes_idle, new_entries, put


class OfflineMap:
    """A map whose client has not reached any member."""

    @property
    def _partition_service(self) -> object:
        raise ClientOfflineError


class TwoPartitions:
    """Partitions of a map: that of a key is 0 or 1, as its text begins."""

    def get_partition_id(self, key: Text) -> int:
        """See the partition service of the client."""
        return int(str(key)[0])


class PartitionedMap:
    """A map of two partitions that records the requests; see the parts of the client that `put_all` names.

    Attributes:
        requests: for each request its partition, its bytes, and the future of its answer.
    """

    name = "messages"

    def __init__(self) -> None:
        self._partition_service = TwoPartitions()
        self.requests: list[tuple[int, bytes, asyncio.Future[None]]] = []

    def _invoke_on_partition(self, request: Any, partition: int) -> "asyncio.Future[None]":
        answer = asyncio.get_running_loop().create_future()
        self.requests.append((partition, bytes(request.buf), answer))
        return answer


def on(steps: Callable[[PartitionedMap, "Map[Text, Text]"], Awaitable[None]]) -> None:
    """Run the steps with a map of two partitions, and the same map as the client's."""

    async def run() -> None:
        made = PartitionedMap()
        await steps(made, cast("Map[Text, Text]", made))

    asyncio.run(run())


def test_each_partition_gets_one_request_within_the_call() -> None:
    """The requests are sent before this task gives way, and each has the texts of its partition only."""

    async def steps(made: PartitionedMap, messages: "Map[Text, Text]") -> None:
        put_all.send(messages, {Text(key): Text(f"text of {key}") for key in ("0a", "1b", "0c")})
        found = {
            partition: [key for key in ("0a", "1b", "0c") if f"text of {key}".encode() in request]
            for partition, request, _ in made.requests
        }
        assert 2 == len(made.requests)
        assert {0: ["0a", "0c"], 1: ["1b"]} == found

    on(steps)


def test_a_put_is_done_when_all_partitions_have_answered() -> None:
    """The answer of one of them is not enough."""

    async def steps(made: PartitionedMap, messages: "Map[Text, Text]") -> None:
        done = put_all.send(messages, {Text("0a"): Text("x"), Text("1b"): Text("y")})
        first, second = (answer for *_, answer in made.requests)
        first.set_result(None)
        await asyncio.sleep(0)
        assert not done.done()
        second.set_result(None)
        await asyncio.wait_for(done, 1.0)

    on(steps)


def test_an_error_of_one_partition_is_the_error_of_the_put() -> None:
    """The caller counts the messages as missed, and a repair puts them again."""

    async def steps(made: PartitionedMap, messages: "Map[Text, Text]") -> None:
        done = put_all.send(messages, {Text("0a"): Text("x"), Text("1b"): Text("y")})
        made.requests[1][2].set_exception(OSError("broken"))
        with pytest.raises(OSError, match="broken"):
            await done
        made.requests[0][2].set_result(None)

    on(steps)


def test_a_client_without_members_does_not_fail_the_append() -> None:
    """A client that knows no partitions yet raises within the call, which counts as a missed message only."""

    async def run() -> None:
        messages = cast("Map[Text, Text]", OfflineMap())
        projection = Projection(cast(HazelcastClient, None), messages, asyncio.Event(), lambda _seconds: None)
        await put(projection, new_entries("a"))
        await becomes_idle(projection, missed=1)

    asyncio.run(run())
