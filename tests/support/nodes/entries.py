"""Messages as a test sent them."""

from collections.abc import Iterable

from common.protocol.content import Entry


def bare(entries: Iterable[Entry]) -> list[Entry]:
    """The messages without the nodes that accepted them."""
    return [entry._replace(node="") for entry in entries]


def map_items(entries: Iterable[Entry]) -> dict[str, str]:
    """The messages as the Hazelcast map has them: texts by id."""
    return {entry.id: entry.msg for entry in entries}
