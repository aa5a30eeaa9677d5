"""Derives events from two consecutive statuses of the cluster. Pure."""

from collections.abc import Iterator, Mapping

from facade.status.schema import ClusterStatus, MemberStatus, NodeStatus, StatusEvent

BURST = 5  # failed attempts at one node between two statuses that make a `retry-burst` event


def changes(before: ClusterStatus, after: ClusterStatus) -> Iterator[StatusEvent]:
    """An event for each change, in a plausible order of cause and effect."""
    for compare in (_registries, _nodes, _replicas, _members, _whole):
        for kind, subject, text in compare(before, after):
            yield StatusEvent(time=after.time, kind=kind, subject=subject, text=text)  # type: ignore[arg-type]


Change = tuple[str, str, str]  # kind, subject, text


def _registries(before: ClusterStatus, after: ClusterStatus) -> Iterator[Change]:
    """Registries that stopped or began to answer."""
    was = {server.address: server.status for server in before.registries}
    for server in after.registries:
        if "down" in (server.status, was.get(server.address)) and server.status != was.get(server.address):
            down = server.status == "down"
            yield (
                "registry-down" if down else "registry-up",
                server.address,
                f"registry {server.address} {'does not answer' if down else 'answers'}",
            )


def _nodes(before: ClusterStatus, after: ClusterStatus) -> Iterator[Change]:
    """Logging nodes whose status changed, that failed often, or that are gone."""
    was = {node.address: node for node in before.logging_nodes}
    for node in after.logging_nodes:
        last = was.get(node.address)
        yield from _node(last, node)
        if last and node.errors - last.errors >= BURST:
            failed = node.errors - last.errors
            yield "retry-burst", node.address, f"{failed} requests to {node.address} went to another node instead"
    for address in was.keys() - {node.address for node in after.logging_nodes}:
        yield "node-down", address, f"node {address} has left"


def _node(last: NodeStatus | None, node: NodeStatus) -> Iterator[Change]:
    """The change of the status of one logging node; `last` is None for a new one."""
    before = (last.status, last.state) if last else ("", "")
    if (node.status, node.state) == before:
        return
    if node.status == "down":
        yield "node-down", node.address, f"node {node.address} does not answer"
    elif node.state == "ready" and node.status == "up":
        yield "node-up", node.address, f"node {node.address} is ready"
    elif node.state != "ready":
        yield "node-changed", node.address, f"node {node.address} is {node.state}"
    else:
        yield "node-suspect", node.address, f"node {node.address} did not answer its last request"


def _replicas(before: ClusterStatus, after: ClusterStatus) -> Iterator[Change]:
    """Replicas that left or joined the in-sync set; none leaves as long as no node reports a set."""
    was, now = _in_sync(before), _in_sync(after)
    for address in sorted(was - now if now else ()):
        text = f"replica {address} is not in the in-sync set any more: records are acknowledged without it"
        yield "replica-fenced", address, text
    for address in sorted(now - was):
        yield "replica-in-sync", address, f"replica {address} is in sync: no record is acknowledged without it"


def _in_sync(view: ClusterStatus) -> frozenset[str]:
    """The reported in-sync set with the highest term; a fenced replica may still report an older set."""
    reports = [(node.term, node.in_sync) for node in view.logging_nodes if node.in_sync]
    return frozenset(max(reports)[1]) if reports else frozenset()


def _members(before: ClusterStatus, after: ClusterStatus) -> Iterator[Change]:
    """Hazelcast members that left or joined, and partitions that moved between members."""
    was, now = _visible(before), _visible(after)
    for address in was.keys() - now.keys():
        yield "member-left", address, f"Hazelcast member {address} left; members now: {len(now)}"
    for address in now.keys() - was.keys():
        yield "member-joined", address, f"Hazelcast member {address} joined; members now: {len(now)}"
    moved = {
        address: (was[address].partitions, member.partitions)
        for address, member in now.items()
        if address in was and was[address].partitions != member.partitions
    }
    if moved:
        moves = ", ".join(f"{address} {old} -> {new}" for address, (old, new) in moved.items())
        yield "partitions-moved", "", f"partitions moved: {moves}"


def _visible(view: ClusterStatus) -> Mapping[str, MemberStatus]:
    """The Hazelcast members that at least one logging node sees, by address."""
    return {member.address: member for member in view.hazelcast.members if member.seen_by}


def _whole(before: ClusterStatus, after: ClusterStatus) -> Iterator[Change]:
    """A change of the cluster's safety, or of the reason for it."""
    if (before.safe, before.reason) != (after.safe, after.reason):
        yield "safe" if after.safe else "not-safe", "", after.reason
