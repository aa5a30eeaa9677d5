"""Tests of tests.chaos.checker: a whole history has no violation, and each kind of damage is found."""

import random
from dataclasses import asdict, replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.chaos.checker import FullRead, Verdict, Write, WriteOutcome, check


def history(seed: int, *, clients: int = 3, each: int = 20) -> tuple[list[Write], list[FullRead]]:
    """A history of a correct log: concurrent writers, unknown outcomes that are stored or not, and reads."""
    chance = random.Random(seed)
    log: list[tuple[float, str]] = []
    writes = []
    for client in range(clients):
        now = chance.random()
        for counter in range(each):
            text = f"w{client}-{counter} {chance.random()}"
            began, stored = now, now + chance.random()
            now = stored + chance.random()
            outcome = chance.choices(list(WriteOutcome), [8, 1, 1])[0]
            if outcome is WriteOutcome.OK or (outcome is WriteOutcome.INFO and chance.random() < 0.5):
                log.append((stored, text))
            writes.append(Write(text, began, now, outcome))
    log.sort()
    end = max(write.ended_s for write in writes)
    moments = [*(chance.uniform(0, end) for _ in range(10)), end + 1]
    return writes, [FullRead([text for at, text in log if at <= moment], moment, moment) for moment in sorted(moments)]


def broken(verdict: Verdict) -> set[str]:
    """The promises that were broken."""
    return {name for name, count in asdict(verdict.broken).items() if count}


@settings(max_examples=1_000, deadline=None)
@given(st.integers(0, 2**32))
def test_a_correct_history_has_no_violation(seed: int) -> None:
    """A thousand histories of a correct log, with unknown outcomes and reads at any time, break no promise."""
    writes, reads = history(seed)
    verdict = check(writes, reads)

    assert set() == broken(verdict)
    assert sum(write.outcome is WriteOutcome.OK for write in writes) == verdict.acknowledged


def without(texts: list[str], *places: int) -> list[str]:
    """The texts except those at some places."""
    return [text for place, text in enumerate(texts) if place not in {index % len(texts) for index in places}]


@pytest.mark.parametrize("places", [(0,), (15,), (-1,), (0, 1, 2), (-3, -2, -1), (10, 20, 30)])
def test_lost_messages_are_counted_at_any_place(places: tuple[int, ...]) -> None:
    """A lost beginning, middle or end of the acknowledged messages is counted."""
    writes, reads = history(1)
    writes = [replace(write, outcome=WriteOutcome.OK) if write.text in reads[-1].texts else write for write in writes]
    gone = [
        replace(read, texts=[t for t in read.texts if t in without(list(reads[-1].texts), *places)]) for read in reads
    ]

    verdict = check(writes, gone)
    assert ({"lost"}, len(places)) == (broken(verdict), verdict.broken.lost)


def damaged(kind: str) -> tuple[list[Write], list[FullRead]]:  # noqa: C901, PLR0911, PLR0912 (a table of cases)
    """A history with one kind of damage."""
    writes, reads = history(2)
    final = list(reads[-1].texts)
    acknowledged = next(write for write in writes if write.outcome is WriteOutcome.OK)
    match kind:
        case "a definite failure that was there":
            failed = next(write for write in writes if write.outcome is WriteOutcome.FAIL)
            return writes, [replace(reads[0], texts=[failed.text]), *reads]
        case "an unknown outcome that was there and is gone":
            unknown = next(write for write in writes if write.outcome is WriteOutcome.INFO)
            gone = [replace(read, texts=[text for text in read.texts if text != unknown.text]) for read in reads]
            return writes, [replace(reads[0], texts=[unknown.text]), *gone]
        case "stale":
            late = replace(reads[-2], texts=[text for text in reads[-2].texts if text != acknowledged.text])
            return writes, [*reads[:-2], late, reads[-1]]
        case "phantom":
            return writes, [*reads[:-1], replace(reads[-1], texts=[*final, "never-1 sent"])]
        case "duplicate at once":
            return writes, [*reads[:-1], replace(reads[-1], texts=[final[0], *final])]
        case "altered":
            return writes, [*reads[:-1], replace(reads[-1], texts=[final[0] + "x", *final[1:]])]
        case "cut":
            return writes, [*reads[:-1], replace(reads[-1], texts=[*final[:-1], final[-1][:-3]])]
        case "swapped in an earlier read":
            return writes, [*reads[:-2], replace(reads[-2], texts=[*reads[-2].texts][::-1]), reads[-1]]
        case "a client's own in another order":
            own = [place for place, text in enumerate(final) if text.startswith("w0-")]
            final[own[0]], final[own[1]] = final[own[1]], final[own[0]]
            return writes, [replace(reads[-1], texts=final)]
        case "a key that made two messages":
            (keyed,) = [write for write in writes if write.text == acknowledged.text]
            return [replace(keyed, ids=("one", "two")), *writes], reads
        case "a page that is skipped":
            return writes, [*reads[:-1], replace(reads[-1], texts=final[:10] + final[20:])]
        case "a page that is repeated":
            return writes, [*reads[:-1], replace(reads[-1], texts=final[:20] + final[10:])]
        case _:
            failed = next(write for write in writes if write.outcome is WriteOutcome.FAIL)
            return writes, [*reads[:-1], replace(reads[-1], texts=[*final, failed.text])]


@pytest.mark.parametrize(
    ("kind", "expected"),
    [
        ("stale", {"stale"}),
        ("phantom", {"phantom"}),
        ("duplicate at once", {"duplicate"}),
        ("altered", {"altered", "lost"}),
        ("cut", {"altered"}),
        ("swapped in an earlier read", {"disorder"}),
        ("a client's own in another order", {"disorder"}),
        ("a key that made two messages", {"divided"}),
        ("a page that is skipped", {"lost"}),
        ("a page that is repeated", {"duplicate", "disorder"}),
        ("a definite failure that is there", {"revived"}),
        ("a definite failure that was there", {"revived"}),
        ("an unknown outcome that was there and is gone", {"vanished"}),
    ],
)
def test_each_kind_of_damage_is_found(kind: str, expected: set[str]) -> None:
    """The checker names the promise that each kind of damage breaks."""
    assert expected <= broken(check(*damaged(kind)))


def test_a_verdict_has_the_longest_staleness_and_outage() -> None:
    """They are the age of the oldest stale message, and the longest time without an acknowledgement, in seconds."""
    writes = [Write("w-0", 0.0, 1.0, WriteOutcome.OK), Write("w-1", 1.0, 6.0, WriteOutcome.OK)]
    verdict = check(writes, [FullRead([], 3.5, 3.6), FullRead(["w-0", "w-1"], 7.0, 7.1)])

    assert (1, 2.5, 5.0) == (verdict.broken.stale, verdict.longest_stale_s, verdict.write_outage_s)
    assert (1_000.0, 5_000.0) == (verdict.latency.p50 / 5, verdict.latency.most)
