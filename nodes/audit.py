"""Compares the journals of the nodes by counts and digests per hour, and repairs what one of them lacks."""

import structlog

from common import ids
from common.codec import Reply
from common.replication import Copy, Digest, Digested, Hour, Verified, Verify
from common.wire import PAGE_MESSAGES, Page
from nodes.background import repeat
from nodes.journal import Journal
from nodes.peers import Peers
from nodes.queries import HOUR_MS, STEP_MS
from nodes.replicated import IN_FLIGHT_S
from nodes.retention import oldest_id

log = structlog.get_logger()

AUDIT_S = 60.0  # between two comparisons of the last hours
RECENT_HOURS = 2  # compared every time; everything is when a node starts, once a day, and by `scripts.cluster verify`
AUDITS_A_DAY = 1_440
ANSWER_S = 10.0  # for one answer of a peer: the digests of 1,000,000 messages take 0.5 s


class Audit:
    """Answers and asks what journals have.

    Args:
        journal: that of this node.
        peers: the other nodes.
        retention_days: older messages are on their way out, and not compared; 0 for none.
    """

    def __init__(self, journal: Journal, peers: Peers, *, retention_days: float = 0.0) -> None:
        self._journal = journal
        self._peers = peers
        self._retention_days = retention_days
        self._compared = 1  # a node compares everything when it starts ...
        self._compared_with: set[str] = set()  # ... with those that answer then

    async def handle(self, request: Digest | Copy | Verify) -> Reply:
        """Answer a peer, or a person; raises StoreError."""
        match request:
            case Digest(from_hour=from_hour, until=until):
                found = await self._journal.hours(from_hour, until)
                return Digested(hours=tuple(found[hour] for hour in sorted(found)[:PAGE_MESSAGES]))
            case Copy(after=after, until=until):
                entries = tuple(await self._journal.between(after, until))
                return Page(entries=entries, next=entries[-1].id if entries else None, node=self._peers.address)
            case Verify(until=until):
                return await self.verify(until)

    async def run(self, *, every_s: float = AUDIT_S) -> None:
        """Compare from time to time, for ever: the last hours, and once a day everything."""
        await repeat(self._compare, every_s=every_s, what="comparing journals")

    async def _compare(self) -> None:
        now_ms = ids.now_ms()
        all_of_it = self._compared % AUDITS_A_DAY == 0 or not self._compared_with.issuperset(self._peers.known())
        from_hour = 0 if all_of_it else now_ms // HOUR_MS - RECENT_HOURS
        self._compared += 1
        await self.verify(ids.last_id(now_ms - int(2_000 * IN_FLIGHT_S)), from_hour)

    async def verify(self, until: str, from_hour: int = 0) -> Verified:
        """Take from the peers what they have up to the id `until` and this journal lacks; what it has then."""
        first_hour = 0
        if self._retention_days:
            first_hour = ids.time_ms(oldest_id(self._retention_days)) // HOUR_MS + 1
        from_hour = max(from_hour, first_hour)
        await self._peers.fetch()
        before = ours = await self._journal.hours(from_hour, until)
        for address in self._peers.live():
            theirs = await self._hours_of(address, from_hour, until)
            if theirs is None:
                continue
            if different := sorted(hour for hour, found in theirs.items() if found != ours.get(hour)):
                for hour in different:
                    await self._copy(address, hour, until)
                ours = await self._journal.hours(from_hour, until)
            if from_hour == first_hour:
                self._compared_with.add(address)
        repaired = _messages(ours) - _messages(before)
        if repaired:
            log.warning("the journal lacked messages that a peer has", messages=repaired)
        digest = sum(found.digest for found in ours.values())
        return Verified(node=self._peers.address, messages=_messages(ours), digest=digest, repaired=repaired)

    async def _hours_of(self, address: str, from_hour: int, until: str) -> dict[int, Hour] | None:
        """What a peer has, by hour; None when it does not answer."""
        found: dict[int, Hour] = {}
        while True:
            request = Digest(from_hour=from_hour, until=until)
            reply = await self._peers.ask(address, request, Digested, timeout_s=ANSWER_S)
            if reply is None:
                return None
            found |= {hour.hour: hour for hour in reply.hours}
            if len(reply.hours) < PAGE_MESSAGES:
                return found
            from_hour = reply.hours[-1].hour + 1

    async def _copy(self, address: str, hour: int, until: str) -> None:
        """Take from a peer what it has of an hour; what is here already stays as it is."""
        after = ids.last_id(hour * HOUR_MS - 1) if hour else ""
        until = min(until, ids.last_id((hour + 1) * HOUR_MS + STEP_MS))
        while page := await self._peers.ask(address, Copy(after=after, until=until), Page, timeout_s=ANSWER_S):
            if page.next is None:
                return
            await self._journal.keep(page.entries)
            after = page.next


def _messages(hours: dict[int, Hour]) -> int:
    return sum(found.messages for found in hours.values())
