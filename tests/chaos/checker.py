"""Checks a history of writes and reads against what the log promises: pure, and linear in what was written and read.

A text is `client-counter rest`; each client writes one after the other, so its counters must appear in their order.
"""

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum
from itertools import pairwise

from common.telemetry.quantiles import quantile
from scripts.client.writers import outage_s


class Outcome(StrEnum):
    """How a write ended for its client."""

    OK = "ok"  # acknowledged: it must be there
    FAIL = "fail"  # certainly not stored: it must not be there
    INFO = "info"  # unknown: it may be there, once


@dataclass(frozen=True, slots=True)
class Write:
    """One message that was sent; times are in monotonic seconds.

    Attributes:
        visible_s: reads that begin later must have it; 0: when it is acknowledged. Another side of a split network has
            it only after the heal.
        ids: every uuid that an answer named; several only for a message that was sent several times with one key.
    """

    text: str
    began_s: float
    ended_s: float
    outcome: Outcome
    ids: tuple[str, ...] = ()
    visible_s: float = 0.0


@dataclass(frozen=True, slots=True)
class Read:
    """One read of everything; times are in monotonic seconds."""

    texts: Sequence[str]
    began_s: float
    ended_s: float


@dataclass(frozen=True, slots=True)
class Violations:
    """How often each promise was broken.

    Attributes:
        lost: acknowledged, and not in the last read.
        stale: acknowledged before a read began, absent from it, and there later.
        phantom: read, and never sent.
        duplicate: one send, two entries in one read.
        altered: read with another text than it was sent with.
        disorder: a read in which messages stand in another order than in the last one, or a client's own not in theirs.
        revived: certainly not stored by the answer, and yet read.
        vanished: read, never acknowledged, and not in the last read: what was seen once must stay.
        divided: sent several times with one idempotency key, and answered with several uuids.
    """

    lost: int
    stale: int
    phantom: int
    duplicate: int
    altered: int
    disorder: int
    revived: int
    vanished: int
    divided: int


@dataclass(frozen=True, slots=True)
class Latency:
    """Of acknowledged writes, in milliseconds."""

    p50: float
    p99: float
    p999: float
    most: float


@dataclass(frozen=True, slots=True)
class Verdict:
    """What a history says.

    Attributes:
        broken: all that must be 0.
        acknowledged, unknown: writes that ended so.
        longest_stale_s: how long after its acknowledgement a message was still missing from a read.
        write_outage_s: the longest time without an acknowledgement between the first and the last.
        read_outage_s: the longest time without a whole read; it is at least the longest read.
        latency: of writes.
    """

    broken: Violations
    acknowledged: int
    unknown: int
    longest_stale_s: float
    write_outage_s: float
    read_outage_s: float
    latency: Latency


def check(writes: Sequence[Write], reads: Sequence[Read]) -> Verdict:
    """The verdict on a history; the last read is the one after everything has healed and every write has ended."""
    final = reads[-1]
    there = set(final.texts)
    seen = {text for read in reads for text in read.texts}
    gone = seen - there
    sent = {write.text: write for write in writes}
    names = {_name(text) for text in sent}
    strange = [text for read in reads for text in set(read.texts) if text not in sent]
    acknowledged = sorted((write for write in writes if write.outcome is Outcome.OK), key=lambda write: write.ended_s)
    stale = [late for read in reads[:-1] for late in _stale(acknowledged, read, there)]
    return Verdict(
        broken=Violations(
            lost=sum(write.text not in there for write in acknowledged),
            stale=len(stale),
            phantom=sum(_name(text) not in names for text in strange),
            duplicate=sum(count - 1 for read in reads for count in Counter(read.texts).values()),
            altered=sum(_name(text) in names for text in strange),
            disorder=_disorder(reads, final),
            revived=sum(write.outcome is Outcome.FAIL and write.text in seen for write in writes),
            vanished=sum(write.outcome is Outcome.INFO and write.text in gone for write in writes),
            divided=sum(len(set(write.ids)) > 1 for write in writes),
        ),
        acknowledged=len(acknowledged),
        unknown=sum(write.outcome is Outcome.INFO for write in writes),
        longest_stale_s=max(stale, default=0.0),
        write_outage_s=outage_s([write.ended_s for write in acknowledged]),
        read_outage_s=outage_s(sorted(read.ended_s for read in reads[:-1])),
        latency=_latency(sorted(1_000 * (write.ended_s - write.began_s) for write in acknowledged)),
    )


def _latency(milliseconds: Sequence[float]) -> Latency:
    return Latency(*(quantile(milliseconds, share) for share in (0.5, 0.99, 0.999, 1.0)))


def _stale(acknowledged: Sequence[Write], read: Read, there: set[str]) -> Iterator[float]:
    """For each message that a read should have had, seconds from its acknowledgement to the begin of the read."""
    had = set(read.texts)
    for write in acknowledged:
        if write.ended_s >= read.began_s:
            return
        if write.text not in had and write.text in there and write.visible_s < read.began_s:
            yield read.began_s - write.ended_s


def _disorder(reads: Sequence[Read], final: Read) -> int:
    places = {text: place for place, text in enumerate(final.texts)}
    moved = 0
    for read in reads:
        in_final = [places[text] for text in read.texts if text in places]
        moved += sum(before > after for before, after in pairwise(in_final))
    last: dict[str, int] = {}
    for client, counter in filter(None, map(_own_order, final.texts)):
        moved += counter < last.get(client, -1)
        last[client] = counter
    return moved


def _own_order(text: str) -> tuple[str, int] | None:
    client, _, counter = _name(text).rpartition("-")
    return (client, int(counter)) if counter.isdecimal() else None


def _name(text: str) -> str:
    """`client-counter`, which tells what was sent, whatever became of the rest."""
    return text.partition(" ")[0]
