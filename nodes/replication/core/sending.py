"""Sends peers the records that they lack, as Replicate messages with a window of unanswered ones."""

from collections.abc import Iterator

from common.protocol.content import content_bytes
from common.protocol.replication import Record, Replicate
from nodes.replication.core.effects import LoadRecords, Range
from nodes.replication.core.records import Records
from nodes.replication.core.state import Peer, Replica


class Sender:
    """Sends records to peers.

    Args:
        replica: the state of this replica.
        records: its records.
    """

    def __init__(self, replica: Replica, records: Records) -> None:
        self._replica = replica
        self._records = records

    def pump(self, peer: Peer) -> None:
        """Send a peer the records that it lacks, this replica's own records first, while its window has room."""
        replica = self._replica
        own = replica.incarnation
        if replica.now_s < peer.paused_s or (peer.failed_s is not None and peer.window):
            return
        while len(peer.window) < replica.settings.window and not peer.loading:
            after = peer.sent.get(own, peer.vector.get(own, 0))
            if after < replica.pending.get(own, 0):
                if self._records.recent and self._records.recent[0].sequence <= after + 1:
                    self._replicate(peer, own, after, self._recent_after(after))
                elif after < replica.vector.get(own, 0):
                    self._load(peer, own, after)
                else:
                    return
            elif not self._load_next(peer):
                return

    def _load_next(self, peer: Peer) -> bool:
        """Begin to read records of another origin that a peer lacks; False if it lacks none."""
        replica = self._replica
        for origin in tuple(peer.origins):
            after = peer.sent.get(origin, peer.vector.get(origin, 0))
            if origin != replica.incarnation and after < replica.vector.get(origin, 0):
                self._load(peer, origin, after)
                return True
            peer.origins.discard(origin)
        return False

    def _load(self, peer: Peer, origin: int, after: int) -> None:
        peer.loading = True
        self._replica.effects.append(LoadRecords(peer.address, origin, after, self._replica.vector[origin]))

    def loaded(self, peer: Peer, found: Range) -> None:
        """Send a peer records that were read from the journal, unless others were sent meanwhile."""
        peer.loading = False
        if peer.sent.get(found.origin, peer.vector.get(found.origin, 0)) == found.after:
            self._replicate(peer, found.origin, found.after, found.records, found.upto)

    def _recent_after(self, after: int) -> tuple[Record, ...]:
        """The next own records after a number, as many as fit one Replicate."""
        settings, first = self._replica.settings, self._records.recent[0].sequence
        return tuple(
            _within(
                (self._records.recent[index] for index in range(after + 1 - first, len(self._records.recent))),
                settings.batch_records,
                settings.batch_bytes,
            )
        )

    def _replicate(
        self, peer: Peer, origin: int, after: int, records: tuple[Record, ...], upto: int | None = None
    ) -> None:
        replica = self._replica
        upto = records[-1].sequence if upto is None else upto
        peer.sent[origin] = upto
        peer.watermark_sent = replica.watermark
        member = replica.in_sync.find(peer.identity)
        replica.send(
            peer,
            Replicate(
                node=replica.own,
                incarnation=replica.incarnation,
                term=replica.in_sync.term if member else 0,
                origin=origin,
                after=after,
                upto=upto,
                records=records,
                watermark=replica.watermark,
            ),
        )


def _within(records: Iterator[Record], most: int, most_bytes: int) -> Iterator[Record]:
    """The first records, at most `most` with at most `most_bytes` of text in total; at least one, however large."""
    size = 0
    for count, record in enumerate(records):
        size += content_bytes(record)
        if count and (count >= most or size > most_bytes):
            return
        yield record
