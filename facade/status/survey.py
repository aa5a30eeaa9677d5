"""How the cluster is now, as one facade sees it: who is known, who answers, and what it says."""

import time
from collections.abc import Iterable, Mapping, Sequence
from functools import partial
from typing import Any, Generic, NamedTuple, TypeVar

import msgspec

from common import VERSION, ids, rpc
from common.codec import Request
from common.errors import PeerError
from common.inspection import Called, Inspect, Lease, Report, Roll
from common.wire import Wire
from facade.client.failure_detector import Suspects
from facade.meter import Meter
from facade.server.scheduler import Scheduler
from facade.status.safety import DOWN, SAFE, why_not_safe
from facade.status.traffic import Traffic
from facade.status.view import ClusterView, HazelcastView, MemberView, NodeView, ServerView, Standing

ANSWER_S = 0.2  # for all registries; then so long for all others: a survey is there within 500 ms whoever hangs
LOGGING, MESSAGES, FACADE = "logging-service", "messages-service", "facade"

ReplyType = TypeVar("ReplyType", bound=Wire)


class Answer(NamedTuple, Generic[ReplyType]):
    """What a server said, and how many milliseconds that took."""

    reply: ReplyType
    round_trip_ms: float


class Survey:
    """Asks everyone at once; one survey at a time.

    Args:
        scheduler: of the requests.
        transport: carries requests.
        registries: host:port of each.
        suspects: addresses that did not answer lately.
        meter: what the facade saw of each node.
        traffic: what this facade answered.
        own: host:port of this facade.
        warnings: of how this facade is exposed.
    """

    def __init__(
        self,
        scheduler: Scheduler,
        transport: rpc.Transport,
        registries: Sequence[str],
        suspects: Suspects,
        meter: Meter,
        *,
        traffic: Traffic | None = None,
        own: str = "",
        warnings: Sequence[str] = (),
    ) -> None:
        self.scheduler = scheduler
        self._transport = transport
        self._registries = tuple(registries)
        self._suspects = suspects
        self._meter = meter
        self._own = own
        self._warnings = list(warnings)
        self.traffic = traffic or Traffic()
        self._standing: dict[str, tuple[Standing, int]] = {}
        self._known: dict[tuple[str, str], Lease] = {}
        self._members: tuple[str, ...] = ()

    def take(self) -> ClusterView:
        """How it is now, without events; at most 2 * ANSWER_S, and what its making takes."""
        rolls = self._ask_all(self._registries, Roll(), Called)
        self._learn([answer.reply for answer in rolls.values()])
        asked = {address: None for service, address in self._known if service != FACADE} | dict.fromkeys(rolls)
        answers = self._ask_all(asked, Inspect(), Report)
        nodes = [self._node(lease, answers.get(lease.address)) for lease in self._of(LOGGING)]
        reports = {node.address: answers[node.address].reply for node in nodes if node.address in answers}
        engine = next((report.engine for report in reports.values() if report.engine), "")
        reason = next(why_not_safe(nodes, registry_answers=bool(rolls)), "")
        return ClusterView(
            safe=not reason,
            reason=reason or SAFE,
            time=ids.text_of_ms(ids.now_ms()),
            engine=engine,
            registries=[self._server(address, answers.get(address), address in rolls) for address in self._registries],
            facades=[self._facade(lease) for lease in self._of(FACADE)],
            messages_nodes=[
                self._server(lease.address, answers.get(lease.address), lease.address in answers, lease)
                for lease in self._of(MESSAGES)
            ],
            logging_nodes=nodes,
            hazelcast=_hazelcast(reports, self._members),
            traffic=self.traffic.last(),
            warnings=self._warnings,
            events=[],
        )

    def _ask_all(
        self, addresses: Iterable[str], request: Request, expect: type[ReplyType]
    ) -> dict[str, Answer[ReplyType]]:
        """Who answered within ANSWER_S, what, and after how many milliseconds."""

        def ask(address: str) -> Answer[ReplyType] | None:
            began = time.perf_counter()
            try:
                reply = rpc.ask(self._transport, address, request, expect, timeout_s=ANSWER_S)
            except PeerError:
                return None
            return Answer(reply, round(1_000 * (time.perf_counter() - began), 2))

        asked = list(addresses)
        answers = self.scheduler.all(partial(ask, address) for address in asked)
        return {address: answer for address, answer in zip(asked, answers, strict=True) if answer}

    def _learn(self, rolls: Sequence[Called]) -> None:
        """Who there is: what any registry says; without one, who there was."""
        if not rolls:
            self._known = {key: lease._replace(renewed_s=-1.0) for key, lease in self._known.items()}
            return
        self._known = {}
        for lease in (lease for called in rolls for lease in called.leases):
            key = (lease.service, lease.address)
            known = self._known.get(key)
            if known is None or (lease.listed, lease.alive) > (known.listed, known.alive):
                self._known[key] = lease
        self._members = rolls[0].members
        there = {*self._registries, *(address for _, address in self._known)}
        self._standing = {address: last for address, last in self._standing.items() if address in there}

    def _of(self, service: str) -> list[Lease]:
        return [lease for (name, _), lease in self._known.items() if name == service]

    def _since(self, address: str, status: Standing, report: Report | None = None) -> str:
        """Since when it is so: since this facade noticed, or, when it was so at its first look, as the server says."""
        last = self._standing.get(address)
        if last is None or last[0] != status:
            since_ms = report.since_ms if report and last is None and report.since_ms else ids.now_ms()
            self._standing[address] = last = (status, since_ms)
        return ids.text_of_ms(last[1])

    def _server(self, address: str, answer: Answer[Report] | None, up: bool, lease: Lease | None = None) -> ServerView:
        status: Standing = "down" if not up else "suspect" if address in self._suspects else "up"
        return ServerView(
            address=address,
            status=status,
            since=self._since(address, status, answer.reply if answer else None),
            version=answer.reply.version if answer else "",
            round_trip_ms=answer.round_trip_ms if answer else None,
            lease_age_s=_age_s(lease),
        )

    def _facade(self, lease: Lease) -> ServerView:
        """Facades speak HTTP only: one is up that has a lease."""
        status: Standing = "up" if lease.alive or lease.address == self._own else "down"
        return ServerView(
            address=lease.address,
            status=status,
            since=self._since(lease.address, status),
            version=VERSION if lease.address == self._own else "",
            lease_age_s=_age_s(lease),
        )

    def _node(self, lease: Lease, answer: Answer[Report] | None) -> NodeView:
        address, seen = lease.address, self._meter.seen(lease.address)
        report = answer.reply if answer else None
        server = self._server(address, answer, answer is not None, lease)
        said: dict[str, Any] = (
            {
                "started": ids.text_of_ms(report.started_ms),
                "total": report.served,
                "member": report.own_member,
                "term": report.term,
                "in_sync": list(report.in_sync),
                "unconfirmed": report.unconfirmed,
                "reason": report.reason,
                "messages": report.messages,
                "journal_bytes": report.journal_bytes,
                "synced": ids.text_of_ms(report.synced_ms) if report.synced_ms else "",
            }
            if report
            else {}
        )
        return NodeView(
            **msgspec.structs.asdict(server),
            state=str(report.state) if report else DOWN,
            listed=lease.listed,
            served=seen.served,
            errors=seen.errors,
            p50_ms=round(seen.quantile_ms(0.5), 2) if seen.recent_s else None,
            p99_ms=round(seen.quantile_ms(0.99), 2) if seen.recent_s else None,
            **said,
        )


def _age_s(lease: Lease | None) -> float | None:
    return round(lease.renewed_s, 1) if lease and lease.renewed_s >= 0 else None


def _hazelcast(reports: Mapping[str, Report], configured: Sequence[str]) -> HazelcastView:
    """The members: those that are configured, and those that any node sees, each as its own node says, if it does."""
    seen = {member.address: member for report in reports.values() for member in report.members}
    for report in reports.values():  # in a split each side has partitions of its own
        seen |= {member.address: member for member in report.members if member.address == report.own_member}
    owners = {report.own_member: address for address, report in reports.items() if report.own_member}
    members = [
        MemberView(
            address=address,
            uuid=seen[address].uuid if address in seen else "",
            node=owners.get(address, ""),
            partitions=seen[address].partitions if address in seen else 0,
            seen_by=[node for node, report in reports.items() if address in {one.address for one in report.members}],
        )
        for address in dict.fromkeys([*configured, *seen])
    ]
    entries = max((report.entries for report in reports.values()), default=-1)
    return HazelcastView(
        partitions=max((sum(one.partitions for one in report.members) for report in reports.values()), default=0),
        entries=entries if entries >= 0 else None,
        members=members if not reports or any(report.members for report in reports.values()) else [],
    )
