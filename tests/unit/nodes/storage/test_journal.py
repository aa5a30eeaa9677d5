"""The contract suite of a journal, run on the SQLite journal and on its in-memory twin."""

import asyncio
import itertools
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

import pytest

from common.ids import first_id, last_id
from common.protocol.messages import Entry
from common.protocol.replication import NO_SET, HourDigest, InSyncSet, Member, Record
from nodes.replication.core.effects import Opened, Range
from nodes.storage.digests import HOUR_MS, checksum
from nodes.storage.memory import MemoryJournal, MemoryTables
from nodes.storage.protocol import Claim, Journal, digest
from nodes.storage.sqlite import SqliteJournal

Opening = Callable[[], AbstractContextManager[Journal]]

ONE, TWO = 11, 12  # incarnations of two nodes
IN_SYNC = InSyncSet(3, (Member("a:1", ONE, 1, True), Member("b:2", TWO, 2, False)))
TEXT = 'text "é" \n\x00 😀'


@pytest.fixture(params=["memory", "sqlite"])
def opening(request: pytest.FixtureRequest, tmp_path: Path) -> Opening:
    """A function that opens a journal, the same one each time."""
    tables = MemoryTables()
    numbers = itertools.count(101)

    @contextmanager
    def memory() -> Iterator[Journal]:
        yield MemoryJournal(tables, numbers.__next__)

    @contextmanager
    def sqlite() -> Iterator[Journal]:
        journal = SqliteJournal(tmp_path / "x.sqlite", "test", "a:1", draw=numbers.__next__)
        try:
            yield journal
        finally:
            journal.close()

    return memory if request.param == "memory" else sqlite


def made_id(hour: int, number: int = 0) -> str:
    """The id of a message in an hour; ids are ordered by `number`."""
    return f"{first_id(hour * HOUR_MS + number)[:13]}-7000-8000-{number:012x}"


def entries_of(numbers: Sequence[int], *, hour: int = 5, text: str = TEXT) -> list[Entry]:
    """Messages in an hour, in the order of `numbers`."""
    return [Entry(made_id(hour, number), f"{number} {text}") for number in numbers]


def ranged(origin: int, entries: Sequence[Entry], *, after: int = 0, key: str | None = None) -> Range:
    """The entries as records of an origin, numbered from `after` + 1."""
    records = tuple(Record(number, *entry, key) for number, entry in enumerate(entries, after + 1))
    return Range(origin, after, after + len(records), records)


def run_on(opening: Opening, steps: Callable[[Journal], Awaitable[None]]) -> None:
    """Open a journal and run the steps on it."""

    async def run() -> None:
        with opening() as journal:
            await steps(journal)

    asyncio.run(run())


def test_messages_are_read_in_id_order(opening: Opening) -> None:
    """Reads return messages in id order, whatever the commit order; texts are unchanged; both bounds are exclusive."""

    async def steps(journal: Journal) -> None:
        entries = entries_of(range(50))
        await journal.commit([ranged(ONE, entries[::-1])], None)
        assert entries == await journal.read("", 100)
        assert entries[8:20] == await journal.read(entries[7].id, 12)
        assert entries[8:20] == await journal.read(entries[7].id, 100, before=entries[20].id)
        assert entries[:-4:-1] == await journal.read("", 3, newest_first=True)
        assert [] == await journal.read(entries[-1].id, 100)

    run_on(opening, steps)


def test_a_range_with_an_end_is_read(opening: Opening) -> None:
    """`between` returns messages above one id, up to and including another one, at most a page."""

    async def steps(journal: Journal) -> None:
        entries = entries_of(range(1_005))
        await journal.commit([ranged(ONE, entries)], None)
        assert entries[3:8] == await journal.between(entries[2].id, entries[7].id)
        assert entries[:1_000] == await journal.between("", entries[-1].id)

    run_on(opening, steps)


def test_records_are_loaded_by_origin_and_number(opening: Opening) -> None:
    """`load` returns the records of one origin by sequence; an unknown origin has none."""

    async def steps(journal: Journal) -> None:
        one, two = ranged(ONE, entries_of(range(5)), key="k"), ranged(TWO, entries_of(range(5, 8)))
        await journal.commit([one, two], None)
        assert one == await journal.load(ONE, 0, 5)
        assert two == await journal.load(TWO, 0, 3)
        assert Range(ONE, 2, 4, one.records[2:4]) == await journal.load(ONE, 2, 4)
        assert Range(13, 0, 4, ()) == await journal.load(13, 0, 4)

    run_on(opening, steps)


def test_a_load_is_cut_at_1000_records(opening: Opening) -> None:
    """The range ends at its last record; the next load continues there."""

    async def steps(journal: Journal) -> None:
        whole = ranged(ONE, entries_of(range(1_500)))
        await journal.commit([whole], None)
        assert Range(ONE, 0, 1_000, whole.records[:1_000]) == await journal.load(ONE, 0, 1_500)
        assert Range(ONE, 1_000, 1_500, whole.records[1_000:]) == await journal.load(ONE, 1_000, 1_500)

    run_on(opening, steps)


def test_a_load_is_cut_by_bytes(opening: Opening) -> None:
    """A load of long texts is cut short, so that it fits into a frame."""

    async def steps(journal: Journal) -> None:
        whole = ranged(ONE, entries_of(range(20), text="é" * 30_000))
        await journal.commit([whole], None)
        assert Range(ONE, 0, 8, whole.records[:8]) == await journal.load(ONE, 0, 20)

    run_on(opening, steps)


def test_a_message_of_two_origins_is_stored_once(opening: Opening) -> None:
    """The second record becomes an alias; both origins are complete, with the text that was stored first."""

    async def steps(journal: Journal) -> None:
        entries = entries_of(range(4))
        others = [Entry(entry.id, "another text") for entry in entries[1:3]] + entries_of([9])
        await journal.commit([ranged(ONE, entries)], None)
        await journal.commit([ranged(TWO, others)], None)
        assert entries + others[-1:] == await journal.read("", 10)
        assert ranged(TWO, [*entries[1:3], others[-1]]) == await journal.load(TWO, 0, 3)
        assert 5 == (await journal.size()).messages

    run_on(opening, steps)


def test_a_message_may_be_twice_in_one_commit(opening: Opening) -> None:
    """Two peers may send the same message at the same time."""

    async def steps(journal: Journal) -> None:
        one, two = ranged(ONE, entries_of([1, 2])), ranged(TWO, entries_of([2, 3]))
        await journal.commit([one, two], None)
        assert entries_of([1, 2, 3]) == await journal.read("", 10)
        assert [one, two] == [await journal.load(ONE, 0, 2), await journal.load(TWO, 0, 2)]

    run_on(opening, steps)


def test_a_commit_that_is_repeated_changes_nothing(opening: Opening) -> None:
    """Records up to the version vector are ignored."""

    async def steps(journal: Journal) -> None:
        whole = ranged(ONE, entries_of(range(4)))
        await journal.commit([whole], None)
        await journal.commit([whole, ranged(ONE, entries_of([2, 3, 4]), after=2)], None)
        assert entries_of(range(5)) == await journal.read("", 10)
        assert ranged(ONE, entries_of(range(5))) == await journal.load(ONE, 0, 5)

    run_on(opening, steps)


def test_committed_data_is_restored_when_the_journal_is_opened_again(opening: Opening) -> None:
    """`opened` has the version vector, the in-sync set and a new incarnation."""

    async def first(journal: Journal) -> None:
        assert Opened(101, {}, None) == journal.opened
        assert 102 == await journal.new_incarnation()
        await journal.commit([ranged(ONE, entries_of(range(3))), Range(TWO, 0, 7, ())], IN_SYNC)

    async def second(journal: Journal) -> None:
        assert Opened(103, {ONE: 3, TWO: 7}, IN_SYNC) == journal.opened
        assert 3 == journal.last_arrival()
        await journal.commit([ranged(ONE, entries_of([3]), after=3)], NO_SET._replace(term=4))

    async def third(journal: Journal) -> None:
        assert Opened(104, {ONE: 4, TWO: 7}, NO_SET._replace(term=4)) == journal.opened
        assert entries_of(range(4)) == await journal.read("", 10)

    for steps in (first, second, third):
        run_on(opening, steps)


def test_an_idempotency_key_belongs_to_the_first_message(opening: Opening) -> None:
    """The claim has the digest of the first text; `load` returns the key with its record."""

    async def steps(journal: Journal) -> None:
        now, other = (Entry(last_id(4_102_444_800_000 + number), str(number)) for number in range(2))
        await journal.commit([ranged(ONE, [now], key="key")], None)
        await journal.commit([ranged(TWO, [other], key="key")], None)
        assert Claim(now.id, digest("0")) == await journal.find_key("key")
        assert await journal.find_key("another") is None
        assert ["key"] == [record.key for record in (await journal.load(ONE, 0, 1)).records]

    run_on(opening, steps)


@pytest.mark.parametrize("order", list(itertools.permutations([(1, 1), (2, 2), (1, 3)])))
@pytest.mark.parametrize("at_once", [False, True])
def test_of_two_messages_with_one_key_the_higher_term_stays(
    opening: Opening, order: list[tuple[int, int]], *, at_once: bool
) -> None:
    """The result does not depend on the order of (message, term); a repair does not restore the removed message."""

    async def steps(journal: Journal) -> None:
        removed, kept = (Entry(last_id(4_102_444_800_000 + number), "text") for number in (1, 2))
        ranges = [
            Range(origin, 0, 1, (Record(1, *(kept if number == 1 else removed), "key", term),))
            for origin, (number, term) in enumerate(order, 21)
        ]
        for group in [ranges] if at_once else [[one] for one in ranges]:
            await journal.commit(group, None)
        assert [kept] == await journal.read("", 10)
        assert 0 == await journal.repair([removed, kept])
        assert Claim(kept.id, digest("text"), 3) == await journal.find_key("key")
        assert 1 == (await journal.size()).messages
        assert [1] == [hour.messages for hour in (await journal.hours(0, last_id(4_200_000_000_000))).values()]
        found = {(await journal.load(origin, 0, 1)).records for origin in (21, 22, 23)}
        assert ranges[order.index((1, 3))].records in found
        assert ranges[order.index((2, 2))].records not in found

    run_on(opening, steps)


def test_two_messages_with_one_key_and_different_texts_both_stay(opening: Opening) -> None:
    """No text may be lost; the key belongs to the first message."""

    async def steps(journal: Journal) -> None:
        one, two = (Entry(last_id(4_102_444_800_000 + number), str(number)) for number in range(2))
        for origin, entry in ((ONE, one), (TWO, two)):
            await journal.commit([Range(origin, 0, 1, (Record(1, *entry, "key", origin),))], None)
        assert [one, two] == await journal.read("", 10)
        assert Claim(one.id, digest("0"), ONE) == await journal.find_key("key")

    run_on(opening, steps)


def test_arrivals_are_in_the_order_of_their_commits(opening: Opening) -> None:
    """Each arrival has the address of the node that accepted it, from the in-sync set."""

    async def steps(journal: Journal) -> None:
        assert 0 == journal.last_arrival()
        await journal.commit([ranged(ONE, entries_of([3, 1]))], IN_SYNC)
        await journal.commit([ranged(TWO, entries_of([2]))], None)
        await journal.repair(entries_of([0]))
        assert 4 == journal.last_arrival()
        found = await journal.arrivals(0, 4)
        assert list(zip([1, 2, 3, 4], entries_of([3, 1, 2, 0]), ["a:1", "a:1", "b:2", ""], strict=True)) == found
        assert found[1:3] == await journal.arrivals(1, 3)
        assert [] == await journal.arrivals(4, 9)

    run_on(opening, steps)


def test_a_page_of_arrivals_has_a_limit(opening: Opening) -> None:
    """A call returns at most 1,000 arrivals."""

    async def steps(journal: Journal) -> None:
        await journal.commit([ranged(ONE, entries_of(range(1_100)))], None)
        assert list(range(1, 1_001)) == [one.number for one in await journal.arrivals(0, 1_100)]

    run_on(opening, steps)


def sums(hour: int, entries: Sequence[Entry]) -> dict[int, HourDigest]:
    """The result of `hours` for an hour with these entries."""
    return {hour: HourDigest(hour, len(entries), sum(checksum(*entry) for entry in entries))} if entries else {}


def test_hours_are_counted_with_their_checksums(opening: Opening) -> None:
    """`hours` starts at an hour, and ends at an id within the last hour."""

    async def steps(journal: Journal) -> None:
        five, six = entries_of(range(40), hour=5), entries_of(range(30), hour=6)
        await journal.commit([ranged(ONE, five + six), ranged(TWO, six)], None)
        assert sums(5, five) | sums(6, six) == await journal.hours(0, made_id(9))
        assert sums(6, six) == await journal.hours(6, made_id(9))
        assert sums(5, five) | sums(6, six[:11]) == await journal.hours(0, six[10].id)
        assert sums(5, five[:40]) == await journal.hours(0, last_id(6 * HOUR_MS - 1))
        assert {} == await journal.hours(7, made_id(9))

    run_on(opening, steps)


def test_a_repair_stores_missing_messages(opening: Opening) -> None:
    """A repair counts only messages that were missing; a record that arrives later becomes an alias."""

    async def steps(journal: Journal) -> None:
        one = ranged(ONE, entries_of(range(4)), key="key")
        await journal.commit([ranged(TWO, entries_of([0]))], None)
        assert 3 == await journal.repair(entries_of([0, 1, 2, 3]))
        assert 0 == await journal.repair(entries_of([0, 1, 2, 3]))
        assert sums(5, entries_of(range(4))) == await journal.hours(0, made_id(9))
        await journal.commit([one], None)
        assert entries_of(range(4)) == await journal.read("", 10)
        assert one == await journal.load(ONE, 0, 4)

    run_on(opening, steps)


def test_expired_messages_are_removed_permanently(opening: Opening) -> None:
    """No method returns an expired message, and neither a commit nor a repair restores it."""

    async def steps(journal: Journal) -> None:
        old, new = entries_of(range(1_500)), entries_of([1, 2], hour=6)
        await journal.commit([ranged(ONE, old + new), ranged(TWO, old[:3])], None)
        assert 1_500 == await journal.expire(last_id(6 * HOUR_MS - 1))
        assert 0 == await journal.expire(last_id(6 * HOUR_MS - 1))
        await journal.commit([ranged(TWO, old[3:5], after=3)], None)
        assert 0 == await journal.repair(old[5:7])
        assert new == await journal.read("", 10)
        assert Range(ONE, 0, 1_502, ranged(ONE, new, after=1_500).records) == await journal.load(ONE, 0, 1_502)
        assert Range(TWO, 0, 5, ()) == await journal.load(TWO, 0, 5)
        assert [1_501, 1_502] == [one.number for one in await journal.arrivals(0, 2_000)]
        assert 2 == (await journal.size()).messages

    async def again(journal: Journal) -> None:
        assert {ONE: 1_502, TWO: 5} == journal.opened.vector
        await journal.expire(made_id(7))
        await journal.commit([ranged(TWO, [*entries_of([1]), *entries_of([3], hour=8)], after=5)], None)
        (arrival,) = await journal.arrivals(0, 2_000)  # numbers may be missing, and are never reused
        assert 1_502 < arrival.number == journal.last_arrival()

    run_on(opening, steps)
    run_on(opening, again)


def test_hours_that_retention_has_reached_are_left_out(opening: Opening) -> None:
    """Other journals may have removed a different part of such an hour."""

    async def steps(journal: Journal) -> None:
        five, six = entries_of(range(4), hour=5), entries_of(range(3), hour=6)
        await journal.commit([ranged(ONE, five + six)], None)
        assert 2 == await journal.expire(five[1].id)
        assert sums(6, six) == await journal.hours(0, made_id(9))
        assert five[2:] + six == await journal.read("", 10)

    run_on(opening, steps)
