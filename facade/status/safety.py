"""Decides whether any two logging nodes may die now without loss. Pure."""

from collections.abc import Collection, Iterator, Sequence
from itertools import combinations

from common.protocol.messages import State
from facade.status.schema import NodeStatus

MAY_DIE = 2  # nodes that may die at once without loss
SAFE = "any two nodes may die"
DOWN = "down"  # the state of a node that does not answer


def why_not_safe(nodes: Sequence[NodeStatus], *, registry_answers: bool) -> Iterator[str]:
    """The reasons why the loss of two logging nodes could lose records now, as sentences, the gravest first.

    There is no reason if there are at least three nodes, each of them is ready, can write and is listed, and all report
    the same in-sync set of the same term, with all nodes in it. Hazelcast members do not count, because the map is only
    a projection.
    """
    if not registry_answers:
        yield "no registry answers"
    yield from _faults(nodes)
    if unlisted := [node.address for node in nodes if not node.listed]:
        yield f"{_words(unlisted)} {_be(unlisted)} not listed by a registry"
    yield from _out_of_sync([node for node in nodes if node.state == State.READY])
    named = {node.address for node in nodes}
    if strangers := sorted({address for node in nodes for address in node.in_sync} - named):
        yield f"{_words(strangers)} {_be(strangers)} in the in-sync set, and no registry names the address"
    yield from _too_few(len(nodes))


def _faults(nodes: Sequence[NodeStatus]) -> Iterator[str]:
    """Nodes that are not ready or cannot write; first those that do not answer."""
    faults: dict[tuple[str, str], list[str]] = {}
    for node in nodes:
        if node.state != State.READY or node.reason:
            faults.setdefault((node.state, node.reason), []).append(node.address)
    for state, reason in sorted(faults, key=lambda fault: (fault[0] == State.READY, fault[0] != DOWN)):
        addresses = faults[state, reason]
        separator = ", but " if state == State.READY else ": "
        yield f"{_words(addresses)} {_be(addresses)} {state}" + (f"{separator}{reason}" if reason else "")


def _out_of_sync(nodes: Sequence[NodeStatus]) -> Iterator[str]:
    """Ready nodes that do not wait for each other's confirmation before they acknowledge a record."""
    for node in nodes:
        if node.address not in node.in_sync:
            yield f"{node.address} is ready and in no in-sync set"
    for one, other in combinations(nodes, 2):
        if other.address not in one.in_sync or one.address not in other.in_sync:
            yield f"{one.address} and {other.address} are not in sync with each other"
        elif one.term != other.term:
            terms = f"{one.term} and {other.term}"
            yield f"{one.address} and {other.address} report in-sync sets of different terms, {terms}"


def _too_few(count: int) -> Iterator[str]:
    """A reason if there are too few logging nodes for two to die."""
    if count == 0:
        yield "no logging node is known"
    elif count <= MAY_DIE:
        subject = "is only 1 logging node" if count == 1 else f"are only {count} logging nodes"
        yield f"there {subject}, and any two may die only of three"


def _words(addresses: Sequence[str]) -> str:
    """The addresses as an enumeration: "a", "a and b", "a, b and c"."""
    *first, last = addresses
    return f"{', '.join(first)} and {last}" if first else last


def _be(addresses: Collection[str]) -> str:
    """The form of the verb "to be" for so many addresses."""
    return "is" if len(addresses) == 1 else "are"
