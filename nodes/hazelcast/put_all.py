"""Puts texts into a map like `put_all` of the client, but sends the requests before the call returns.

The client's `put_all` sends them from tasks, which run after the commit of this replica, so the members would wait for
its disk. Uses private parts of hazelcast-python-client 5.7; tests/cluster/hazelcast/test_map.py checks them.
"""

import asyncio
from collections import defaultdict
from collections.abc import Mapping
from typing import Any

from hazelcast.asyncio import Map
from hazelcast.errors import HazelcastError
from hazelcast.protocol.codec import map_put_all_codec

from nodes.hazelcast.text import Text


def send(messages: "Map[Text, Text]", texts: Mapping[Text, Text]) -> "asyncio.Future[Any]":
    """Send one request per partition; the future is done when all are answered, including their backups."""
    try:
        answers = [
            messages._invoke_on_partition(map_put_all_codec.encode_request(messages.name, pairs, False), partition)
            for partition, pairs in _by_partition(messages, texts).items()
        ]
    except HazelcastError as error:  # the client has no partition table before it has reached a member
        refused: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        refused.set_exception(error)
        return refused
    return answers[0] if len(answers) == 1 else asyncio.gather(*answers)


def _by_partition(messages: "Map[Text, Text]", texts: Mapping[Text, Text]) -> dict[int, list[tuple[Text, Text]]]:
    found: dict[int, list[tuple[Text, Text]]] = defaultdict(list)
    for key, text in texts.items():
        found[messages._partition_service.get_partition_id(key)].append((key, text))
    return found
