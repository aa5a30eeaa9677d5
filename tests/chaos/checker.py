"""Checks a history of writes and reads against the promises of the log.

Pure code, whose time is linear in the size of the history. Each text has the form `client-counter rest`. A client sends
one message at a time, so its counters must appear in ascending order. Promises about missing, repeated and reordered
messages are judged against the last read, which begins after every fault has healed and every write has ended.
"""

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum
from itertools import pairwise

from common.telemetry.quantiles import quantile
from scripts.client.writers import outage_s


class WriteOutcome(StrEnum):
    """How a write ended for its client."""

    OK = "ok"  # acknowledged: the message must be stored
    FAIL = "fail"  # certainly not stored: no read may show the message
    INFO = "info"  # outcome unknown: the message may be stored, but at most once


@dataclass(frozen=True, slots=True)
class Write:
    """One message that a client sent; times are in monotonic seconds.

    Attributes:
        visible_s: a read that begins later must show the message; 0 means from its acknowledgement on. While the
            network is split, the other side shows it only after the heal.
        ids: every uuid that an answer named; several only if the message was sent several times with one key.
    """

    text: str
    began_s: float
    ended_s: float
    outcome: WriteOutcome
    ids: tuple[str, ...] = ()
    visible_s: float = 0.0


@dataclass(frozen=True, slots=True)
class FullRead:
    """One read of the whole log; times are in monotonic seconds."""

    texts: Sequence[str]
    began_s: float
    ended_s: float


@dataclass(frozen=True, slots=True)
class Violations:
    """How often each promise was broken.

    Attributes:
        lost: acknowledged messages that the last read does not show.
        stale: messages that a read does not show although they were acknowledged before it began, and that the last
            read shows.
        phantom: messages that were read but never sent.
        duplicate: additional copies of one message in one read.
        altered: messages that were read with another text than they were sent with.
        disorder: pairs of neighbours that a read shows in another order than the last read, and messages that the last
            read shows after a later message of the same client.
        revived: messages that were read although their answer said that they were certainly not stored.
        vanished: messages with an unknown outcome that a read shows and the last read does not.
        divided: messages that were sent several times with one idempotency key and answered with different uuids.
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
    """Latency of acknowledged writes in milliseconds: quantiles, and the maximum (`most`)."""

    p50: float
    p99: float
    p999: float
    most: float


@dataclass(frozen=True, slots=True)
class Verdict:
    """The result of checking a history.

    Attributes:
        broken: violations; all counts must be 0.
        acknowledged, unknown: how many writes ended with this outcome.
        longest_stale_s: the longest time from an acknowledgement to the start of a read that did not show the message.
        write_outage_s: the longest time without an acknowledgement, between the first and the last one.
        read_outage_s: the longest time in which no read of the whole log completed; at least the longest read.
        latency: of acknowledged writes.
    """

    broken: Violations
    acknowledged: int
    unknown: int
    longest_stale_s: float
    write_outage_s: float
    read_outage_s: float
    latency: Latency


def check(writes: Sequence[Write], reads: Sequence[FullRead]) -> Verdict:
    """The verdict on a history, whose last read must begin after all faults have healed and all writes have ended."""
    final = reads[-1]
    final_texts = set(final.texts)
    seen = {text for read in reads for text in read.texts}
    vanished = seen - final_texts
    sent = {write.text: write for write in writes}
    names = {_name(text) for text in sent}
    unsent = [text for read in reads for text in set(read.texts) if text not in sent]
    acknowledged = sorted(
        (write for write in writes if write.outcome is WriteOutcome.OK), key=lambda write: write.ended_s
    )
    stale = [late for read in reads[:-1] for late in _stale(acknowledged, read, final_texts)]
    return Verdict(
        broken=Violations(
            lost=sum(write.text not in final_texts for write in acknowledged),
            stale=len(stale),
            phantom=sum(_name(text) not in names for text in unsent),
            duplicate=sum(count - 1 for read in reads for count in Counter(read.texts).values()),
            altered=sum(_name(text) in names for text in unsent),
            disorder=_disorder(reads, final),
            revived=sum(write.outcome is WriteOutcome.FAIL and write.text in seen for write in writes),
            vanished=sum(write.outcome is WriteOutcome.INFO and write.text in vanished for write in writes),
            divided=sum(len(set(write.ids)) > 1 for write in writes),
        ),
        acknowledged=len(acknowledged),
        unknown=sum(write.outcome is WriteOutcome.INFO for write in writes),
        longest_stale_s=max(stale, default=0.0),
        write_outage_s=outage_s([write.ended_s for write in acknowledged]),
        read_outage_s=outage_s(sorted(read.ended_s for read in reads[:-1])),
        latency=_latency(sorted(1_000 * (write.ended_s - write.began_s) for write in acknowledged)),
    )


def _latency(milliseconds: Sequence[float]) -> Latency:
    return Latency(*(quantile(milliseconds, share) for share in (0.5, 0.99, 0.999, 1.0)))


def _stale(acknowledged: Sequence[Write], read: FullRead, final_texts: set[str]) -> Iterator[float]:
    """For each message that a read lacks, seconds from its acknowledgement to the start of the read."""
    shown = set(read.texts)
    for write in acknowledged:
        if write.ended_s >= read.began_s:
            return
        if write.text not in shown and write.text in final_texts and write.visible_s < read.began_s:
            yield read.began_s - write.ended_s


def _disorder(reads: Sequence[FullRead], final: FullRead) -> int:
    """See `Violations.disorder`."""
    places = {text: place for place, text in enumerate(final.texts)}
    misplaced = 0
    for read in reads:
        in_final = [places[text] for text in read.texts if text in places]
        misplaced += sum(before > after for before, after in pairwise(in_final))
    last: dict[str, int] = {}
    for client, counter in filter(None, map(_client_and_counter, final.texts)):
        misplaced += counter < last.get(client, -1)
        last[client] = counter
    return misplaced


def _client_and_counter(text: str) -> tuple[str, int] | None:
    """The client that sent a text and its counter; None if the text does not have that form."""
    client, _, counter = _name(text).rpartition("-")
    return (client, int(counter)) if counter.isdecimal() else None


def _name(text: str) -> str:
    """`client-counter`, which identifies a message even if the rest of its text was altered."""
    return text.partition(" ")[0]
