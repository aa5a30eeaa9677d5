"""How a replica comes into sync: as a joiner, or, when nobody is listed, together with the others."""

from collections.abc import Callable, Sequence

from common.protocol.replication import Admit, Bootstrap, Identity, Join, Renewed, Standing
from nodes.replication.core.effects import RegistryRequest
from nodes.replication.core.state import Peer, Replica, Versions, covers, to_wire

FLAPPING_S = 60.0  # fences within this time count for the hold-down


class Joining:
    """Brings this replica into sync, and takes others in.

    Args:
        replica: the state of this replica.
        configured: host:port of every logging node in the configuration.
        ask: asks the registries.
    """

    def __init__(self, replica: Replica, configured: Sequence[str], ask: Callable[[RegistryRequest], None]) -> None:
        self.replica = replica
        self._configured = tuple(configured)
        self._ask = ask
        self._registry: Renewed | None = None  # the last answer of a registry, and when it came
        self._registry_s = float("-inf")
        self.none_listed_since_s = replica.now_s  # since when no replica is listed
        self._offer: Versions = {}  # what this replica had when it was admitted
        self._fences: dict[Identity, list[float]] = {}

    def learn(self, reply: Renewed) -> None:
        """Take note of whom a registry lists."""
        self._registry, self._registry_s = reply, self.replica.now_s

    def admitted(self) -> None:
        """Take note of being in the in-sync set: the others must have what this replica has now before it is listed."""
        self._offer = dict(self.replica.vector)

    def left(self) -> None:
        """Take note of being in no in-sync set any more."""
        self.none_listed_since_s = self.replica.now_s
        self.replica.source = ""

    def fenced(self, identity: Identity) -> None:
        """A member was fenced: when that happens often, it has to wait before it is admitted again."""
        self._fences.setdefault(identity, []).append(self.replica.now_s)

    # Other replicas

    def admit_others(self) -> None:
        """Ask the registry to take in joiners that have nearly caught up."""
        replica = self.replica
        for peer in replica.peers.values():
            if not replica.wants_records(peer) or peer in replica.members or not peer.join or not peer.join.can_serve:
                continue
            lag = sum(max(upto - peer.vector.get(origin, 0), 0) for origin, upto in replica.vector.items())
            if lag <= replica.settings.join_lag and self._is_quick(peer) and not self._held_down(peer.identity):
                self._ask(Admit(node=replica.own, incarnation=replica.incarnation, joiner=peer.identity))

    def _is_quick(self, peer: Peer) -> bool:
        """True if the peer does not confirm records more slowly than a member may."""
        settings, now_s = self.replica.settings, self.replica.now_s
        waits_s = now_s - next(iter(peer.unanswered.values()), now_s)
        usual = peer.answer_s <= settings.join_confirm_s or now_s - peer.answered_s > settings.heartbeat_s
        return usual and waits_s <= settings.join_confirm_s

    def _held_down(self, identity: Identity) -> bool:
        """True if the replica was fenced so often lately that it has to wait."""
        settings, now_s = self.replica.settings, self.replica.now_s
        fences = [at_s for at_s in self._fences.get(identity, ()) if now_s - at_s < FLAPPING_S]
        if not fences:
            self._fences.pop(identity, None)
            return False
        hold_s: float = min(settings.hold_down_s * 2 ** (len(fences) - 1), settings.hold_down_max_s)
        return now_s - fences[-1] < hold_s

    # This replica as a joiner

    def seek(self) -> None:
        """Go on with joining, or with founding."""
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
            self._found()

    def why_joining(self) -> str:
        """What this replica waits for, in one sentence."""
        source = self.replica.source
        if self._registry is None:
            return "no registry has answered yet"
        if source and self._registry.live:
            if not self.replica.peer(source).connected:
                return f"{source}, from which it takes what it lacks, cannot be reached"
            return f"it takes what it lacks from {source}"
        return "no replica is listed: it waits for the others of its last in-sync set, and takes what they have"

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
        """True if all listed members wait for this replica, which has all that they had then, and they what it had."""
        replica = self.replica
        listed = [replica.peer(one.address) for one in replica.in_sync.listed]
        return (
            replica.can_serve
            and bool(listed)
            and all(
                peer.complete
                and peer.target is not None
                and covers(replica.vector, peer.target)
                and covers(peer.vector, self._offer)
                for peer in listed
            )
        )

    def _expected(self) -> list[str]:
        """Who may have what this replica lacks when nobody is listed."""
        last = [one.address for one in self.replica.last.members] if self.replica.last else []
        return [address for address in dict.fromkeys([*self._configured, *last]) if address != self.replica.own]

    def _found(self) -> None:
        """Nobody is listed: the lowest address of those that have merged founds the next in-sync set."""
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
        """Whose records others may have acknowledged last; nobody's, if this replica was the last one alone."""
        last = self.replica.last
        if last is None:
            return [address for address in self._configured if address != self.replica.own]
        return [one.address for one in last.listed if one.address != self.replica.own]

    def _is_merged(self, peer: Peer) -> bool:
        vector = self.replica.vector
        return peer.complete and covers(vector, peer.vector) and covers(peer.vector, vector)
