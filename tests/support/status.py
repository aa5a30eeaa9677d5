"""The status of logging nodes, as facades report it."""

from typing import Any

from facade.status.schema import NodeStatus

NODES = A, B, C = ("127.0.0.1:5002", "127.0.0.1:5003", "127.0.0.1:5004")
TERM = 12
TIME = "2026-11-24T08:00:00.000Z"


def node_status(address: str, **fields: Any) -> NodeStatus:
    """The status of a node that is well, except for the given fields."""
    well: dict[str, Any] = {
        "status": "up",
        "state": "ready",
        "listed": True,
        "since": TIME,
        "term": TERM,
        "in_sync": list(NODES),
    }
    return NodeStatus(address=address, **well | fields)


WELL = [node_status(address) for address in NODES]
FENCED = node_status(C, state="joining", reason="this replica was fenced", listed=False, in_sync=[], term=13)
WITHOUT_FENCED = [node_status(address, in_sync=[A, B], term=13) for address in (A, B)]
