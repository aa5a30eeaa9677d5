"""How the cluster is now, as one facade sees it: who is listed, who answers, and what it says."""

import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from common import rpc
from common.errors import PeerError
from common.wire import Known, Lookup, Ping, State, Status
from facade.meter import Meter
from facade.routing import Suspects

ANSWER_S = 0.25  # for one answer; two of them, one after the other, are all that is waited for
ASKED_AT_ONCE = 16
MAY_DIE = 2  # nodes, and nothing is lost


@dataclass(frozen=True, slots=True)
class NodeView:
    """A logging node: what it says it can do ("down" when it says nothing), and what this facade saw of it."""

    address: str
    state: str
    listed: bool
    suspect: bool
    members: int
    round_trip_ms: float
    served: int
    errors: int
    p50_ms: float
    p99_ms: float


@dataclass(frozen=True, slots=True)
class ClusterView:
    """The whole: `safe` when any two nodes may die now and nothing is lost; else `reason` says why not."""

    safe: bool
    reason: str
    registries: dict[str, bool]
    hazelcast_members: tuple[str, ...]
    logging_nodes: tuple[NodeView, ...]


class Survey:
    """Asks everyone at once.

    Args:
        transport: carries requests.
        registries: host:port of each.
        suspects: addresses that did not answer lately.
        meter: what the facade saw of each node.
    """

    def __init__(self, transport: rpc.Transport, registries: Sequence[str], suspects: Suspects, meter: Meter) -> None:
        self._transport = transport
        self._registries = tuple(registries)
        self._suspects = suspects
        self._meter = meter
        self._threads = ThreadPoolExecutor(ASKED_AT_ONCE, thread_name_prefix="survey")

    def take(self) -> ClusterView:
        """How it is now; at most 2 * ANSWER_S."""
        answers = dict(zip(self._registries, self._threads.map(self._listed, self._registries), strict=True))
        configured: dict[str, None] = {}
        listed: set[str] = set()
        for found in filter(None, answers.values()):
            configured |= dict.fromkeys(found[0] + found[1])
            listed |= set(found[1])
        nodes = tuple(self._threads.map(lambda address: self._node(address, address in listed), configured))
        members = next((found[2] for found in answers.values() if found), ())
        reason = next(why_not_safe(nodes, members, registry_answers=any(answers.values())), "")
        registries = {address: found is not None for address, found in answers.items()}
        return ClusterView(not reason, reason or "any two nodes may die", registries, members, nodes)

    def _listed(self, registry: str) -> tuple[tuple[str, ...], tuple[str, ...], tuple[str, ...]] | None:
        """Nodes that are configured, those that are handed out, and members; None when the registry is silent."""

        def known(name: str) -> tuple[str, ...]:
            return rpc.ask(self._transport, registry, Lookup(name=name), Known, timeout_s=ANSWER_S / 3).values

        try:
            return known("configured-logging-service"), known("logging-service"), known("hazelcast-clients")
        except PeerError:
            return None

    def _node(self, address: str, listed: bool) -> NodeView:
        began = time.perf_counter()
        try:
            status = rpc.ask(self._transport, address, Ping(), Status, timeout_s=ANSWER_S)
            state, members = str(status.state), status.members
        except PeerError:
            state, members = "down", 0
        seen = self._meter.seen(address)
        return NodeView(
            address=address,
            state=state,
            listed=listed,
            suspect=address in self._suspects,
            members=members,
            round_trip_ms=round(1_000 * (time.perf_counter() - began), 2),
            served=seen.served,
            errors=seen.errors,
            p50_ms=round(seen.quantile_ms(0.5), 2),
            p99_ms=round(seen.quantile_ms(0.99), 2),
        )


def why_not_safe(nodes: tuple[NodeView, ...], members: tuple[str, ...], *, registry_answers: bool) -> Iterator[str]:
    """Each reason why not any two nodes may die now, the weightiest first."""
    if not registry_answers:
        yield "no registry answers"
    if broken := [f"{node.address} is {node.state}" for node in nodes if node.state != State.READY]:
        yield ", ".join(broken)
    if unlisted := [node.address for node in nodes if not node.listed]:
        yield f"{', '.join(unlisted)} is not handed out"
    if len(nodes) <= MAY_DIE:
        yield f"there are only {len(nodes)} logging nodes"
    seen = {node.members for node in nodes}
    if seen == {0}:
        yield "the nodes share one file on one disk"  # the embedded engine
    if len(seen) > 1 or max(seen, default=0) < len(members):
        yield f"of {len(members)} Hazelcast members the nodes see {', '.join(map(str, sorted(seen)))}"
