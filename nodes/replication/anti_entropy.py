"""Anti-entropy: compares the journals of the replicas by hourly digests, and copies missing messages.

Replication itself leaves no differences. This finds those that a defect or a faulty disk has caused.
"""

import asyncio
from collections.abc import Callable

import structlog

from common import ids
from common.errors import PeerError, StoreError
from common.protocol.codec import Reply, Request
from common.protocol.messages import PAGE_MESSAGES, Page
from common.protocol.replication import Digest, Digested, HourDigest, ListEntries, Verified, Verify
from common.rpc.transport import AsyncTransport
from nodes.replication.core.machine import Core
from nodes.storage.protocol import HOUR_MS, Journal

log = structlog.get_logger()

COMPARE_S = 60.0  # pause between two comparisons
RECENT_HOURS = 2  # compared each time; all hours are compared once a day, and by `scripts.cluster verify`
COMPARISONS_A_DAY = 1_440
IN_FLIGHT_MS = 30_000  # messages younger than this are not compared: they may still be replicating
SETTLE_S = 1.0  # an hour must differ in the same way after this time: records with an old time may be replicating
ANSWER_S = 10.0  # timeout for one answer of a peer

AntiEntropyRequest = Digest | ListEntries | Verify


class AntiEntropy:
    """Compares this node's journal with the journals of other replicas, and answers their comparisons.

    Args:
        core: provides the current in-sync set.
        journal: the journal of this node.
        transport: sends requests to the other replicas.
        now_ms: milliseconds since 1970.
        settle_s: seconds for which a difference must last; see SETTLE_S.
    """

    def __init__(
        self,
        core: Core,
        journal: Journal,
        transport: AsyncTransport,
        *,
        now_ms: Callable[[], int] = ids.now_ms,
        settle_s: float = SETTLE_S,
    ) -> None:
        self._settle_s = settle_s
        self._now_ms = now_ms
        self._core = core
        self._journal = journal
        self._transport = transport

    async def handle(self, request: AntiEntropyRequest) -> Reply:
        """Answer a request of another replica or of an operator.

        Raises:
            StoreError: the journal cannot be read or repaired.
        """
        match request:
            case Digest(from_hour=from_hour, until=until):
                found = await self._journal.hours(from_hour, until)
                return Digested(hours=tuple(found[hour] for hour in sorted(found)[:PAGE_MESSAGES]))
            case ListEntries(after=after, until=until):
                entries = tuple(await self._journal.between(after, until))
                return Page(entries=entries, next=entries[-1].id if entries else None, node=self._own)
            case Verify(until=until):
                return await self.verify(until)

    @property
    def _own(self) -> str:
        return self._core.replica.own

    async def run(self) -> None:
        """Compare periodically, until cancelled: the last hours every COMPARE_S, and all hours once a day."""
        count = 0
        while True:
            await asyncio.sleep(COMPARE_S)
            count += 1
            now_ms = self._now_ms()
            from_hour = 0 if count % COMPARISONS_A_DAY == 0 else now_ms // HOUR_MS - RECENT_HOURS
            try:
                await self.verify(ids.last_id(now_ms - IN_FLIGHT_MS), from_hour)
            except StoreError as error:
                log.warning("the journals could not be compared", reason=str(error))

    async def verify(self, until: str, from_hour: int = 0) -> Verified:
        """Copy the messages up to the id `until` that this journal lacks from the other listed replicas.

        Returns:
            What the journal has afterwards, and how many messages were copied.
        """
        repaired = 0
        for member in self._core.in_sync.listed:
            if member.address != self._own and (differing := await self._differing(member.address, from_hour, until)):
                await asyncio.sleep(self._settle_s)
                again = await self._differing(member.address, from_hour, until)
                for hour in sorted(hour for hour, digests in differing.items() if again.get(hour) == digests):
                    repaired += await self._copy(member.address, hour, until)
        if repaired:
            log.warning("the journal lacked messages that another replica has", messages=repaired)
        ours = await self._journal.hours(from_hour, until)
        messages, digest = sum(one.messages for one in ours.values()), sum(one.digest for one in ours.values())
        return Verified(node=self._own, messages=messages, digest=digest, repaired=repaired)

    async def _differing(self, address: str, from_hour: int, until: str) -> dict[int, tuple[HourDigest, ...]]:
        """The digests of both journals for each hour of a replica's journal that differs from this one."""
        ours = await self._journal.hours(from_hour, until)
        theirs = await self._hours_of(address, from_hour, until)
        return {
            hour: (found, ours.get(hour, HourDigest(hour, 0, 0)))
            for hour, found in theirs.items()
            if found != ours.get(hour)
        }

    async def _hours_of(self, address: str, from_hour: int, until: str) -> dict[int, HourDigest]:
        """The digests of a replica's journal by hour; empty if it does not answer."""
        found: dict[int, HourDigest] = {}
        while isinstance(reply := await self._ask(address, Digest(from_hour=from_hour, until=until)), Digested):
            found |= {hour.hour: hour for hour in reply.hours}
            if len(reply.hours) < PAGE_MESSAGES:
                return found
            from_hour = reply.hours[-1].hour + 1
        return {}

    async def _copy(self, address: str, hour: int, until: str) -> int:
        """Copy a replica's messages of one hour; return how many of them this journal lacked."""
        after = ids.last_id(hour * HOUR_MS - 1) if hour else ""
        until = min(until, ids.last_id((hour + 1) * HOUR_MS - 1))
        repaired = 0
        while isinstance(page := await self._ask(address, ListEntries(after=after, until=until)), Page) and page.next:
            repaired += await self._journal.repair(page.entries)
            after = page.next
        return repaired

    async def _ask(self, address: str, request: Request) -> Reply | None:
        try:
            return await self._transport.call(address, request, timeout_s=ANSWER_S)
        except PeerError as error:
            log.info("a replica did not answer a comparison of journals", replica=address, reason=error.reason)
            return None
