"""Joining: brings a replica into sync by joining the listed replicas, or by bootstrapping a set if none is listed."""

from collections.abc import Callable, Sequence

from common.protocol.replication import Admit, Bootstrap, Identity, Join, Renewed, Standing
from nodes.replication.core.effects import RegistryRequest
from nodes.replication.core.state import Peer, Replica, Versions, covers, to_wire

FLAPPING_S = 60.0  # only fences within this time lengthen the hold-down


class Joining:
    """Brings this replica into sync, and has joiners admitted that catch up from it.

    Args:
        replica: the state of this replica.
        configured: host:port of every logging node in the configuration.
        ask: sends a request to the registries.

    Attributes:
        none_listed_since_s: since when no replica is listed.
    """

    def __init__(self, replica: Replica, configured: Sequence[str], ask: Callable[[RegistryRequest], None]) -> None:
        self.replica = replica
        self._configured = tuple(configured)
        self._ask = ask
        self._registry: Renewed | None = None  # the last answer of a registry
        self._registry_s = float("-inf")  # when it arrived
        self.none_listed_since_s = replica.now_s
        self._admitted_vector: Versions = {}  # the vector of this replica when it was admitted
        self._fences: dict[Identity, list[float]] = {}

    def learn(self, reply: Renewed) -> None:
        """Record the answer of a registry, with the replicas that it lists."""
        self._registry, self._registry_s = reply, self.replica.now_s

    def admitted(self) -> None:
        """Record the vector at admission: the members must have all of it before this replica is listed."""
        self._admitted_vector = dict(self.replica.vector)

    def left(self) -> None:
        """Start over: this replica is in no in-sync set any more."""
        self.none_listed_since_s = self.replica.now_s
        self.replica.source = ""

    def fenced(self, identity: Identity) -> None:
        """Record that a member was fenced: the more often, the longer it waits before it is admitted again."""
        self._fences.setdefault(identity, []).append(self.replica.now_s)

    # Other replicas

    def admit_others(self) -> None:
        """Ask the registries to admit joiners that have nearly caught up from this replica."""
        replica = self.replica
        for peer in replica.peers.values():
            if not replica.wants_records(peer) or peer in replica.members or not peer.join or not peer.join.can_serve:
                continue
            lag = sum(max(upto - peer.vector.get(origin, 0), 0) for origin, upto in replica.vector.items())
            if lag <= replica.settings.join_lag and self._is_quick(peer) and not self._held_down(peer.identity):
                self._ask(Admit(node=replica.own, incarnation=replica.incarnation, joiner=peer.identity))

    def _is_quick(self, peer: Peer) -> bool:
        """True if the peer answers within `join_confirm_s`; an answer older than `heartbeat_s` does not count."""
        settings, now_s = self.replica.settings, self.replica.now_s
        oldest_s = now_s - next(iter(peer.unanswered.values()), now_s)
        last_quick = peer.answer_s <= settings.join_confirm_s or now_s - peer.answered_s > settings.heartbeat_s
        return last_quick and oldest_s <= settings.join_confirm_s

    def _held_down(self, identity: Identity) -> bool:
        """True if the replica was fenced recently and has to wait before it is admitted again."""
        settings, now_s = self.replica.settings, self.replica.now_s
        fences = [at_s for at_s in self._fences.get(identity, ()) if now_s - at_s < FLAPPING_S]
        if not fences:
            self._fences.pop(identity, None)
            return False
        hold_s: float = min(settings.hold_down_s * 2 ** (len(fences) - 1), settings.hold_down_max_s)
        return now_s - fences[-1] < hold_s

    # This replica as a joiner

    def advance(self) -> None:
        """Take the next step: join the listed replicas, or bootstrap a set with others if no replica is listed."""
        replica = self.replica
        recent = replica.now_s - self._registry_s <= 2 * replica.settings.heartbeat_s
        live = [one for one in self._registry.live if one != replica.own] if self._registry and recent else []
        if live or not recent:
            self.none_listed_since_s = replica.now_s
        if live:
            if replica.source not in live or not replica.peer(replica.source).connected:
                connected = [address for address in live if replica.peer(address).connected]
                replica.source = (connected or live)[0]
            for address in live:
                self._join(address, wants_records=address == replica.source)
            if (own := replica.member()) and self._is_complete():
                joiner = replica.identity
                self._ask(Admit(node=own.address, incarnation=own.incarnation, joiner=joiner, since=own.since))
        else:
            for address in self._expected():
                self._join(address, wants_records=True)
            self._bootstrap()

    def why_joining(self) -> str:
        """The reason why this replica is not in sync yet, as a sentence for operators."""
        source = self.replica.source
        if self._registry is None:
            return "no registry has answered yet"
        if source and self._registry.live:
            if not self.replica.peer(source).connected:
                return f"its source of missing records, {source}, cannot be reached"
            return f"it is catching up from {source}"
        return "no replica is listed: it waits for the other members of its last in-sync set, and catches up from them"

    def _join(self, address: str, *, wants_records: bool) -> None:
        replica, peer = self.replica, self.replica.peer(address)
        if len(peer.unanswered) > len(peer.window) or replica.now_s - peer.contacted_s < replica.settings.retry_s:
            return
        peer.contacted_s = replica.now_s
        replica.send(
            peer,
            Join(
                node=replica.own,
                incarnation=replica.incarnation,
                in_sync=replica.in_sync,
                vector=to_wire(replica.vector),
                wants_records=wants_records and not replica.read_only,
                can_serve=replica.can_serve and not replica.read_only,
            ),
        )

    def _is_complete(self) -> bool:
        """True if this replica may be listed.

        All listed members have adopted the set with this replica, it has what they had then, and they have what it had.
        """
        replica = self.replica
        listed = [replica.peer(one.address) for one in replica.in_sync.listed]
        return (
            replica.can_serve
            and bool(listed)
            and all(
                peer.complete
                and peer.target is not None
                and covers(replica.vector, peer.target)
                and covers(peer.vector, self._admitted_vector)
                for peer in listed
            )
        )

    def _expected(self) -> list[str]:
        """The addresses of replicas that may have records that this one lacks, when no replica is listed."""
        last = [one.address for one in self.replica.last.members] if self.replica.last else []
        return [address for address in dict.fromkeys([*self._configured, *last]) if address != self.replica.own]

    def _bootstrap(self) -> None:
        """Found the next in-sync set if this is the lowest address of the replicas that have merged their records."""
        replica, now_s = self.replica, self.replica.now_s
        settings, registry = replica.settings, self._registry
        if not replica.can_serve or registry is None or now_s - self._registry_s > 2 * settings.heartbeat_s:
            return
        reachable = [
            peer
            for address, peer in replica.peers.items()
            if address != replica.own and peer.state and now_s - peer.state_s < 5 * settings.retry_s
        ]
        if registry.standing is Standing.STARTING or any(peer.state.ready for peer in reachable if peer.state):
            return
        merged = [peer for peer in reachable if self._is_merged(peer)]
        serving = [peer for peer in merged if peer.state and peer.state.can_serve]
        missing = {*self._awaited()} - {peer.address for peer in reachable}
        waited = now_s - self.none_listed_since_s >= settings.assemble_s
        if len(merged) < len(reachable) or ((missing or len(serving) < len(merged)) and not waited):
            return
        if all(replica.own < peer.address for peer in serving):
            terms = [replica.term, *(peer.state.in_sync.term for peer in reachable if peer.state)]
            members = (replica.identity, *(peer.identity for peer in serving))
            self._ask(Bootstrap(node=replica.own, incarnation=replica.incarnation, term=max(terms), members=members))

    def _awaited(self) -> list[str]:
        """The replicas that may have acknowledged records without this one: the others of its last in-sync set.

        None if it was the last listed one alone; all configured ones if its journal has no set.
        """
        last = self.replica.last
        if last is None:
            return [address for address in self._configured if address != self.replica.own]
        return [one.address for one in last.listed if one.address != self.replica.own]

    def _is_merged(self, peer: Peer) -> bool:
        vector = self.replica.vector
        return peer.complete and covers(vector, peer.vector) and covers(peer.vector, vector)
