"""What changed between two looks at the cluster. Pure."""

from collections.abc import Iterator, Mapping

from facade.view import ClusterView, EventView, MemberView, NodeView

BURST = 5  # attempts that failed between two looks, at one node


def changes(before: ClusterView, after: ClusterView) -> Iterator[EventView]:
    """Each change, in an order in which it may have happened."""
    for event in _registries(before, after), _nodes(before, after), _members(before, after), _whole(before, after):
        for kind, subject, text in event:
            yield EventView(time=after.time, kind=kind, subject=subject, text=text)  # type: ignore[arg-type]


Change = tuple[str, str, str]  # kind, subject, text


def _registries(before: ClusterView, after: ClusterView) -> Iterator[Change]:
    was = {server.address: server.status for server in before.registries}
    for server in after.registries:
        if "down" in (server.status, was.get(server.address)) and server.status != was.get(server.address):
            down = server.status == "down"
            yield (
                "registry-silent" if down else "registry-up",
                server.address,
                f"registry {server.address} {'does not answer' if down else 'answers'}",
            )


def _nodes(before: ClusterView, after: ClusterView) -> Iterator[Change]:
    was = {node.address: node for node in before.logging_nodes}
    for node in after.logging_nodes:
        last = was.get(node.address)
        yield from _node(last, node)
        if last and node.errors - last.errors >= BURST:
            failed = node.errors - last.errors
            yield "fallback-burst", node.address, f"{failed} requests to {node.address} went to another node instead"
        if last and last.listed and not node.listed and node.state == "ready":
            yield (
                "view-fenced",
                node.address,
                f"{node.address} answers, but the registry does not hand it out: it sees a smaller part of the cluster",
            )
    for address in was.keys() - {node.address for node in after.logging_nodes}:
        yield "node-down", address, f"node {address} has left"


def _node(last: NodeView | None, node: NodeView) -> Iterator[Change]:
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
        yield "node-suspect", node.address, f"node {node.address} did not answer a request lately"


def _members(before: ClusterView, after: ClusterView) -> Iterator[Change]:
    was, now = _seen(before), _seen(after)
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
        told = ", ".join(f"{address} {old} -> {new}" for address, (old, new) in moved.items())
        yield "partitions-moved", "", f"partitions moved: {told}"


def _seen(view: ClusterView) -> Mapping[str, MemberView]:
    """The members that somebody sees."""
    return {member.address: member for member in view.hazelcast.members if member.seen_by}


def _whole(before: ClusterView, after: ClusterView) -> Iterator[Change]:
    if (before.safe, before.reason) != (after.safe, after.reason):
        yield "safe" if after.safe else "not-safe", "", after.reason
