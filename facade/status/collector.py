"""Collects the status of the cluster: asks the registries for all processes, and each process for a report."""

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from typing import Any, Generic, NamedTuple, TypeVar

import msgspec

from common import VERSION, ids
from common.errors import PeerError
from common.protocol.admin import Inspect, LeaseInfo, Leases, ListLeases, Report
from common.protocol.codec import Request
from common.protocol.messages import WireMessage
from common.rpc.transport import Transport, ask
from facade.client.failure_detector import FailureDetector
from facade.client.node_statistics import NodeStatistics
from facade.server.scheduler import Scheduler
from facade.status.request_rate import RequestRate
from facade.status.safety import DOWN, SAFE, why_not_safe
from facade.status.schema import ClusterStatus, HazelcastStatus, MemberStatus, NodeStatus, Reachability, ServerStatus

ANSWER_TIMEOUT_S = 0.2  # for all registries, then for all others: hanging processes cost at most 0.5 s
LOGGING, MESSAGES, FACADE = "logging-service", "messages-service", "facade"

ReplyType = TypeVar("ReplyType", bound=WireMessage)


class TimedReply(NamedTuple, Generic[ReplyType]):
    """The reply of a process, and the milliseconds until it arrived."""

    reply: ReplyType
    round_trip_ms: float


class StatusCollector:
    """Asks all processes for their status at the same time.

    Args:
        scheduler: runs the requests to all processes concurrently.
        transport: carries the requests.
        registries: host:port of each registry.
        detector: the failure detector, which knows suspected addresses.
        statistics: what this facade counted for each node.
        request_rate: the request rate of this facade.
        own: host:port of this facade.
        warnings: about unprotected interfaces of this facade.
        clock: seconds from any start.
        now_ms: milliseconds since 1970.
    """

    def __init__(
        self,
        scheduler: Scheduler,
        transport: Transport,
        registries: Sequence[str],
        detector: FailureDetector,
        statistics: NodeStatistics,
        *,
        request_rate: RequestRate | None = None,
        own: str = "",
        warnings: Sequence[str] = (),
        clock: Callable[[], float] = time.perf_counter,
        now_ms: Callable[[], int] = ids.now_ms,
    ) -> None:
        self._clock = clock
        self._now_ms = now_ms
        self.scheduler = scheduler
        self._transport = transport
        self._registries = tuple(registries)
        self._detector = detector
        self._statistics = statistics
        self._own = own
        self._warnings = list(warnings)
        self.request_rate = request_rate or RequestRate()
        self._since: dict[str, tuple[Reachability, int]] = {}
        self._leases: dict[tuple[str, str], LeaseInfo] = {}
        self._members: tuple[str, ...] = ()

    def collect(self) -> ClusterStatus:
        """The current status, without events; takes at most about 2 * ANSWER_TIMEOUT_S."""
        leases = self._ask_all(self._registries, ListLeases(), Leases)
        self._update_leases([answer.reply for answer in leases.values()])
        asked = {address: None for service, address in self._leases if service != FACADE} | dict.fromkeys(leases)
        answers = self._ask_all(asked, Inspect(), Report)
        nodes = [self._node(lease, answers.get(lease.address)) for lease in self._of(LOGGING)]
        reports = {node.address: answers[node.address].reply for node in nodes if node.address in answers}
        engine = next((report.engine for report in reports.values() if report.engine), "")
        reason = next(why_not_safe(nodes, registry_answers=bool(leases)), "")
        return ClusterStatus(
            safe=not reason,
            reason=reason or SAFE,
            time=ids.text_of_ms(self._now_ms()),
            engine=engine,
            registries=[self._server(address, answers.get(address), address in leases) for address in self._registries],
            facades=[self._facade(lease) for lease in self._of(FACADE)],
            messages_nodes=[
                self._server(lease.address, answers.get(lease.address), lease.address in answers, lease)
                for lease in self._of(MESSAGES)
            ],
            logging_nodes=nodes,
            hazelcast=_hazelcast(reports, self._members),
            traffic=self.request_rate.last(),
            warnings=self._warnings,
            events=[],
        )

    def _ask_all(
        self, addresses: Iterable[str], request: Request, expect: type[ReplyType]
    ) -> dict[str, TimedReply[ReplyType]]:
        """The replies that arrive within ANSWER_TIMEOUT_S, by address."""

        def ask_one(address: str) -> TimedReply[ReplyType] | None:
            began_s = self._clock()
            try:
                reply = ask(self._transport, address, request, expect, timeout_s=ANSWER_TIMEOUT_S)
            except PeerError:
                return None
            return TimedReply(reply, round(1_000 * (self._clock() - began_s), 2))

        asked = list(addresses)
        answers = self.scheduler.all(partial(ask_one, address) for address in asked)
        return {address: answer for address, answer in zip(asked, answers, strict=True) if answer}

    def _update_leases(self, answers: Sequence[Leases]) -> None:
        """Take the leases that the registries report; if none answers, keep the addresses of the last collection."""
        if not answers:
            self._leases = {key: lease._replace(renewed_s=-1.0) for key, lease in self._leases.items()}
            return
        self._leases = {}
        for lease in (lease for answer in answers for lease in answer.leases):
            key = (lease.service, lease.address)
            best = self._leases.get(key)
            if best is None or (lease.listed, lease.alive) > (best.listed, best.alive):
                self._leases[key] = lease
        self._members = answers[0].members
        listed = {*self._registries, *(address for _, address in self._leases)}
        self._since = {address: since for address, since in self._since.items() if address in listed}

    def _of(self, service: str) -> list[LeaseInfo]:
        """The leases of a service."""
        return [lease for (name, _), lease in self._leases.items() if name == service]

    def _since_time(self, address: str, status: Reachability, report: Report | None = None) -> str:
        """When the status of a process began.

        It is the time at which this facade noticed it or, at the first collection, the time that the process reports.
        """
        last = self._since.get(address)
        if last is None or last[0] != status:
            since_ms = report.since_ms if report and last is None and report.since_ms else ids.now_ms()
            self._since[address] = last = (status, since_ms)
        return ids.text_of_ms(last[1])

    def _server(
        self, address: str, answer: TimedReply[Report] | None, up: bool, lease: LeaseInfo | None = None
    ) -> ServerStatus:
        status: Reachability = "down" if not up else "suspect" if address in self._detector else "up"
        return ServerStatus(
            address=address,
            status=status,
            since=self._since_time(address, status, answer.reply if answer else None),
            version=answer.reply.version if answer else "",
            round_trip_ms=answer.round_trip_ms if answer else None,
            lease_age_s=_age_s(lease),
        )

    def _facade(self, lease: LeaseInfo) -> ServerStatus:
        """The status of a facade. It answers no status requests, so it is up if it has a lease."""
        status: Reachability = "up" if lease.alive or lease.address == self._own else "down"
        return ServerStatus(
            address=lease.address,
            status=status,
            since=self._since_time(lease.address, status),
            version=VERSION if lease.address == self._own else "",
            lease_age_s=_age_s(lease),
        )

    def _node(self, lease: LeaseInfo, answer: TimedReply[Report] | None) -> NodeStatus:
        address, counts = lease.address, self._statistics.of(lease.address)
        report = answer.reply if answer else None
        server = self._server(address, answer, answer is not None, lease)
        reported: dict[str, Any] = (
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
        return NodeStatus(
            **msgspec.structs.asdict(server),
            state=str(report.state) if report else DOWN,
            listed=lease.listed,
            served=counts.answers,
            errors=counts.errors,
            p50_ms=round(counts.quantile_ms(0.5), 2) if counts.recent_s else None,
            p99_ms=round(counts.quantile_ms(0.99), 2) if counts.recent_s else None,
            **reported,
        )


def _age_s(lease: LeaseInfo | None) -> float | None:
    return round(lease.renewed_s, 1) if lease and lease.renewed_s >= 0 else None


def _hazelcast(reports: Mapping[str, Report], configured: Sequence[str]) -> HazelcastStatus:
    """The configured Hazelcast members and those that nodes see, each as its own node reports it, if that answers."""
    seen = {member.address: member for report in reports.values() for member in report.members}
    for report in reports.values():  # after a split each side has its own partition table
        seen |= {member.address: member for member in report.members if member.address == report.own_member}
    owners = {report.own_member: address for address, report in reports.items() if report.own_member}
    members = [
        MemberStatus(
            address=address,
            uuid=seen[address].uuid if address in seen else "",
            node=owners.get(address, ""),
            partitions=seen[address].partitions if address in seen else 0,
            seen_by=[node for node, report in reports.items() if address in {one.address for one in report.members}],
        )
        for address in dict.fromkeys([*configured, *seen])
    ]
    entries = max((report.entries for report in reports.values()), default=-1)
    return HazelcastStatus(
        partitions=max((sum(one.partitions for one in report.members) for report in reports.values()), default=0),
        entries=entries if entries >= 0 else None,
        members=members if not reports or any(report.members for report in reports.values()) else [],
    )
