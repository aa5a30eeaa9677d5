"""The contract of nodes.storage.protocol.Journal, on the SQLite file and on its twin in memory."""

import asyncio
import itertools
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

import pytest

from common.ids import first_id, last_id
from common.protocol.content import Entry
from common.protocol.replication import NO_SET, HourDigest, InSyncSet, Member, Record
from common.protocol.search import Search
from nodes.replication.core.effects import Opened, Range
from nodes.storage.memory import MemoryJournal, MemoryTables
from nodes.storage.protocol import HOUR_MS, Claim, Journal, checksum, digest, hour_of
from nodes.storage.sqlite import SqliteJournal
from tests.support.nodes.entries import bare
from tests.support.nodes.journals import range_of

Opening = Callable[[], AbstractContextManager[Journal]]

ONE, TWO = 11, 12  # incarnations of two nodes
IN_SYNC = InSyncSet(3, (Member("a:1", ONE, 1, True), Member("b:2", TWO, 2, False)))
TEXT = 'text "é" \n\x00 😀'


@pytest.fixture(params=["memory", "sqlite"])
def opening(request: pytest.FixtureRequest, tmp_path: Path) -> Opening:
    """Opens a journal; each time the same one."""
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


def id_in_hour(hour: int, number: int = 0) -> str:
    """The id of a message of an hour; ids are in the order of the numbers."""
    return f"{first_id(hour * HOUR_MS + number)[:13]}-7000-8000-{number:012x}"


def entries_of(numbers: Sequence[int], *, hour: int = 5, text: str = TEXT) -> list[Entry]:
    """Messages of an hour, one for each number."""
    return [Entry(id_in_hour(hour, number), f"{number} {text}") for number in numbers]


def run_on(opening: Opening, steps: Callable[[Journal], Awaitable[None]]) -> None:
    """Run the steps on an open journal."""

    async def run() -> None:
        with opening() as journal:
            await steps(journal)

    asyncio.run(run())


def test_messages_are_read_in_id_order(opening: Opening) -> None:
    """Messages are read in the order of their ids, whatever the order of their commits, with both bounds excluded."""

    async def steps(journal: Journal) -> None:
        entries = entries_of(range(50))
        await journal.commit([range_of(entries[::-1], origin=ONE)], None)
        assert entries == await journal.read("", 100)
        assert entries[8:20] == await journal.read(entries[7].id, 12)
        assert entries[8:20] == await journal.read(entries[7].id, 100, before=entries[20].id)
        assert entries[:-4:-1] == await journal.read("", 3, newest_first=True)
        assert [] == await journal.read(entries[-1].id, 100)

    run_on(opening, steps)


def test_messages_between_two_ids_are_read(opening: Opening) -> None:
    """`between` excludes its first id and includes its last one, and returns at most 1,000 messages."""

    async def steps(journal: Journal) -> None:
        entries = entries_of(range(1_005))
        await journal.commit([range_of(entries, origin=ONE)], None)
        assert entries[3:8] == await journal.between(entries[2].id, entries[7].id)
        assert entries[:1_000] == await journal.between("", entries[-1].id)

    run_on(opening, steps)


def test_records_are_loaded_by_origin_and_sequence(opening: Opening) -> None:
    """Each origin has its own sequence, and an unknown origin has no records."""

    async def steps(journal: Journal) -> None:
        one, two = range_of(entries_of(range(5)), origin=ONE, key="k"), range_of(entries_of(range(5, 8)), origin=TWO)
        await journal.commit([one, two], None)
        assert one == await journal.load(ONE, 0, 5)
        assert two == await journal.load(TWO, 0, 3)
        assert Range(ONE, 2, 4, one.records[2:4]) == await journal.load(ONE, 2, 4)
        assert Range(13, 0, 4, ()) == await journal.load(13, 0, 4)

    run_on(opening, steps)


def test_a_load_returns_at_most_1000_records(opening: Opening) -> None:
    """The range ends with its last record, and the next load continues up to the requested end."""

    async def steps(journal: Journal) -> None:
        whole = range_of(entries_of(range(1_500)), origin=ONE)
        await journal.commit([whole], None)
        assert Range(ONE, 0, 1_000, whole.records[:1_000]) == await journal.load(ONE, 0, 1_500)
        assert Range(ONE, 1_000, 1_500, whole.records[1_000:]) == await journal.load(ONE, 1_000, 1_500)

    run_on(opening, steps)


def test_the_bytes_of_a_load_are_limited(opening: Opening) -> None:
    """A load of long texts is shorter, so that it fits into a frame."""

    async def steps(journal: Journal) -> None:
        whole = range_of(entries_of(range(20), text="é" * 30_000), origin=ONE)
        await journal.commit([whole], None)
        assert Range(ONE, 0, 8, whole.records[:8]) == await journal.load(ONE, 0, 20)

    run_on(opening, steps)


def test_a_message_under_two_origins_is_stored_once(opening: Opening) -> None:
    """Its second record is an alias: both origins are complete, with the text that was stored first."""

    async def steps(journal: Journal) -> None:
        entries = entries_of(range(4))
        others = [Entry(entry.id, "another text") for entry in entries[1:3]] + entries_of([9])
        await journal.commit([range_of(entries, origin=ONE)], None)
        await journal.commit([range_of(others, origin=TWO)], None)
        assert entries + others[-1:] == await journal.read("", 10)
        assert range_of([*entries[1:3], others[-1]], origin=TWO) == await journal.load(TWO, 0, 3)
        assert 5 == (await journal.size()).messages

    run_on(opening, steps)


def test_a_message_may_be_in_one_commit_under_two_origins(opening: Opening) -> None:
    """Two peers may send the same message at once."""

    async def steps(journal: Journal) -> None:
        one, two = range_of(entries_of([1, 2]), origin=ONE), range_of(entries_of([2, 3]), origin=TWO)
        await journal.commit([one, two], None)
        assert entries_of([1, 2, 3]) == await journal.read("", 10)
        assert [one, two] == [await journal.load(ONE, 0, 2), await journal.load(TWO, 0, 2)]

    run_on(opening, steps)


def test_a_repeated_commit_changes_nothing(opening: Opening) -> None:
    """Records up to the version vector are already stored, and are ignored."""

    async def steps(journal: Journal) -> None:
        whole = range_of(entries_of(range(4)), origin=ONE)
        await journal.commit([whole], None)
        await journal.commit([whole, range_of(entries_of([2, 3, 4]), origin=ONE, after=2)], None)
        assert entries_of(range(5)) == await journal.read("", 10)
        assert range_of(entries_of(range(5)), origin=ONE) == await journal.load(ONE, 0, 5)

    run_on(opening, steps)


def test_a_reopened_journal_has_what_was_committed(opening: Opening) -> None:
    """The version vector, the in-sync set and a new incarnation are available when a journal is opened."""

    async def first(journal: Journal) -> None:
        assert Opened(101, {}, None) == journal.opened
        assert 102 == await journal.new_incarnation()
        await journal.commit([range_of(entries_of(range(3)), origin=ONE), Range(TWO, 0, 7, ())], IN_SYNC)

    async def second(journal: Journal) -> None:
        assert Opened(103, {ONE: 3, TWO: 7}, IN_SYNC) == journal.opened
        assert 3 == journal.last_arrival()
        await journal.commit([range_of(entries_of([3]), origin=ONE, after=3)], NO_SET._replace(term=4))

    async def third(journal: Journal) -> None:
        assert Opened(104, {ONE: 4, TWO: 7}, NO_SET._replace(term=4)) == journal.opened
        assert entries_of(range(4)) == bare(await journal.read("", 10))

    for steps in (first, second, third):
        run_on(opening, steps)


def test_an_idempotency_key_belongs_to_its_first_message(opening: Opening) -> None:
    """The claim has a digest of the text, and the record carries the key to other replicas."""

    async def steps(journal: Journal) -> None:
        now, other = (Entry(last_id(4_102_444_800_000 + number), str(number)) for number in range(2))
        await journal.commit([range_of([now], origin=ONE, key="key")], None)
        await journal.commit([range_of([other], origin=TWO, key="key")], None)
        assert Claim(now.id, digest(Entry("", "0"))) == await journal.find_key("key")
        assert await journal.find_key("another") is None
        assert ["key"] == [record.key for record in (await journal.load(ONE, 0, 1)).records]

    run_on(opening, steps)


@pytest.mark.parametrize("order", list(itertools.permutations([(1, 1), (2, 2), (1, 3)])))
@pytest.mark.parametrize("at_once", [False, True])
def test_of_two_messages_with_one_key_the_higher_term_stays(
    opening: Opening, order: list[tuple[int, int]], *, at_once: bool
) -> None:
    """Journals agree on one message whatever the order of the commits, and a repair does not bring back the others."""

    async def steps(journal: Journal) -> None:
        removed, kept = (Entry(last_id(4_102_444_800_000 + number), "text") for number in (1, 2))
        ranges = [
            Range(origin, 0, 1, (Record(1, (kept if number == 1 else removed).id, "text", "key", term),))
            for origin, (number, term) in enumerate(order, 21)
        ]
        for group in [ranges] if at_once else [[one] for one in ranges]:
            await journal.commit(group, None)
        assert [kept] == await journal.read("", 10)
        assert 0 == await journal.repair([removed, kept])
        assert Claim(kept.id, digest(Entry("", "text")), 3) == await journal.find_key("key")
        assert 1 == (await journal.size()).messages
        assert [1] == [hour.messages for hour in (await journal.hours(0, last_id(4_200_000_000_000))).values()]
        found = {(await journal.load(origin, 0, 1)).records for origin in (21, 22, 23)}
        assert ranges[order.index((1, 3))].records in found
        assert ranges[order.index((2, 2))].records not in found

    run_on(opening, steps)


def test_two_messages_with_one_key_and_different_texts_both_stay(opening: Opening) -> None:
    """No text is lost, and the key belongs to the first message."""

    async def steps(journal: Journal) -> None:
        one, two = (Entry(last_id(4_102_444_800_000 + number), str(number)) for number in range(2))
        for origin, entry in ((ONE, one), (TWO, two)):
            await journal.commit([Range(origin, 0, 1, (Record(1, entry.id, entry.msg, "key", origin),))], None)
        assert [one, two] == await journal.read("", 10)
        assert Claim(one.id, digest(Entry("", "0")), ONE) == await journal.find_key("key")

    run_on(opening, steps)


def test_arrivals_are_in_the_order_of_the_commits(opening: Opening) -> None:
    """Each arrival names the node that accepted the message, as the in-sync set identifies it."""

    async def steps(journal: Journal) -> None:
        assert 0 == journal.last_arrival()
        await journal.commit([range_of(entries_of([3, 1]), origin=ONE)], IN_SYNC)
        await journal.commit([range_of(entries_of([2]), origin=TWO)], None)
        await journal.repair(entries_of([0]))
        assert 4 == journal.last_arrival()
        found = await journal.arrivals(0, 4)
        assert [1, 2, 3, 4] == [one.number for one in found]
        assert entries_of([3, 1, 2, 0]) == bare(one.entry for one in found)
        assert ["a:1", "a:1", "b:2", ""] == [one.entry.node for one in found]
        assert found[1:3] == await journal.arrivals(1, 3)
        assert [] == await journal.arrivals(4, 9)

    run_on(opening, steps)


def test_a_page_of_arrivals_is_limited(opening: Opening) -> None:
    """A follower that is far behind gets 1,000 arrivals at a time."""

    async def steps(journal: Journal) -> None:
        await journal.commit([range_of(entries_of(range(1_100)), origin=ONE)], None)
        assert list(range(1, 1_001)) == [one.number for one in await journal.arrivals(0, 1_100)]

    run_on(opening, steps)


def digests_of(hour: int, entries: Sequence[Entry]) -> dict[int, HourDigest]:
    """The digest of an hour that has these messages, as `hours` returns it."""
    return (
        {hour: HourDigest(hour, len(entries), sum(checksum(entry.id, entry.msg, entry.fields) for entry in entries))}
        if entries
        else {}
    )


def test_hours_have_a_count_and_a_checksum(opening: Opening) -> None:
    """Digests begin with an hour, and end with an id that may be within the last hour."""

    async def steps(journal: Journal) -> None:
        five, six = entries_of(range(40), hour=5), entries_of(range(30), hour=6)
        await journal.commit([range_of(five + six, origin=ONE), range_of(six, origin=TWO)], None)
        assert digests_of(5, five) | digests_of(6, six) == await journal.hours(0, id_in_hour(9))
        assert digests_of(6, six) == await journal.hours(6, id_in_hour(9))
        assert digests_of(5, five) | digests_of(6, six[:11]) == await journal.hours(0, six[10].id)
        assert digests_of(5, five[:40]) == await journal.hours(0, last_id(6 * HOUR_MS - 1))
        assert {} == await journal.hours(7, id_in_hour(9))

    run_on(opening, steps)


def test_a_repair_stores_messages_that_are_missing(opening: Opening) -> None:
    """A repair counts only missing messages, which have no origin; a later record of one is an alias."""

    async def steps(journal: Journal) -> None:
        one = range_of(entries_of(range(4)), origin=ONE, key="key")
        await journal.commit([range_of(entries_of([0]), origin=TWO)], None)
        assert 3 == await journal.repair(entries_of([0, 1, 2, 3]))
        assert 0 == await journal.repair(entries_of([0, 1, 2, 3]))
        assert digests_of(5, entries_of(range(4))) == await journal.hours(0, id_in_hour(9))
        await journal.commit([one], None)
        assert entries_of(range(4)) == await journal.read("", 10)
        assert one == await journal.load(ONE, 0, 4)

    run_on(opening, steps)


def test_expired_messages_are_gone_for_good(opening: Opening) -> None:
    """They are not read, loads skip their records, and neither a record nor a repair brings them back."""

    async def steps(journal: Journal) -> None:
        old, new = entries_of(range(1_500)), entries_of([1, 2], hour=6)
        await journal.commit([range_of(old + new, origin=ONE), range_of(old[:3], origin=TWO)], None)
        assert 1_500 == await journal.expire(last_id(6 * HOUR_MS - 1))
        assert 0 == await journal.expire(last_id(6 * HOUR_MS - 1))
        await journal.commit([range_of(old[3:5], origin=TWO, after=3)], None)
        assert 0 == await journal.repair(old[5:7])
        assert new == await journal.read("", 10)
        assert Range(ONE, 0, 1_502, range_of(new, origin=ONE, after=1_500).records) == await journal.load(ONE, 0, 1_502)
        assert Range(TWO, 0, 5, ()) == await journal.load(TWO, 0, 5)
        assert [1_501, 1_502] == [one.number for one in await journal.arrivals(0, 2_000)]
        assert 2 == (await journal.size()).messages

    async def again(journal: Journal) -> None:
        assert {ONE: 1_502, TWO: 5} == journal.opened.vector
        await journal.expire(id_in_hour(7))
        await journal.commit([range_of([*entries_of([1]), *entries_of([3], hour=8)], origin=TWO, after=5)], None)
        (arrival,) = await journal.arrivals(0, 2_000)  # numbers may be left out, and are never used again
        assert 1_502 < arrival.number == journal.last_arrival()

    run_on(opening, steps)
    run_on(opening, again)


def test_hours_that_retention_has_reached_have_no_digest(opening: Opening) -> None:
    """Another journal may have removed more or fewer messages of such an hour."""

    async def steps(journal: Journal) -> None:
        five, six = entries_of(range(4), hour=5), entries_of(range(3), hour=6)
        await journal.commit([range_of(five + six, origin=ONE)], None)
        assert 2 == await journal.expire(five[1].id)
        assert digests_of(6, six) == await journal.hours(0, id_in_hour(9))
        assert five[2:] + six == await journal.read("", 10)

    run_on(opening, steps)


def test_a_search_finds_what_matches(opening: Opening) -> None:
    """In the order of the ids, within the bounds, with the fields and the node of each message."""

    async def steps(journal: Journal) -> None:
        entries = [
            Entry(id_in_hour(5, number), f"{'Disk' if number % 2 else 'cpu'} {number}", f'{{"level":"{number % 3}"}}')
            for number in range(12)
        ]
        await journal.commit([range_of(entries, origin=ONE)], IN_SYNC)
        disk, level = Search("disk"), Search("disk", (("level", "1"),))
        found = await journal.search(disk, "", 100)
        assert (entries[1::2], None) == (bare(found.entries), found.next)
        assert {"a:1"} == {entry.node for entry in found.entries}
        assert [entries[1], entries[7]] == bare((await journal.search(level, "", 100)).entries)
        found = await journal.search(disk, entries[1].id, 2, before=entries[9].id, newest_first=True)
        assert ([entries[7], entries[5]], entries[5].id) == (bare(found.entries), found.next)
        assert [] == (await journal.search(Search("tape"), "", 100)).entries

    run_on(opening, steps)


def test_fields_are_stored_with_their_message(opening: Opening) -> None:
    """They are in pages, arrivals, ranges for peers, and the digest of a key."""

    async def steps(journal: Journal) -> None:
        entry = Entry(last_id(4_102_444_800_000), "x", '{"a":"é"}')  # its key is not older than a day
        await journal.commit([range_of([entry], origin=ONE, key="key")], None)
        assert [entry] == bare(await journal.read("", 10))
        assert [entry] == bare(one.entry for one in await journal.arrivals(0, 1))
        assert range_of([entry], origin=ONE, key="key") == await journal.load(ONE, 0, 1)
        assert Claim(entry.id, digest(entry)) == await journal.find_key("key")
        assert digest(entry) != digest(entry._replace(fields=""))
        assert digests_of(4_102_444_800_000 // HOUR_MS, [entry]) == await journal.hours(0, entry.id)

    run_on(opening, steps)


@pytest.mark.parametrize(("after_ms", "hour"), [(0, 7), (HOUR_MS - 1, 7), (HOUR_MS, 8)])
def test_an_id_belongs_to_the_hour_in_which_it_was_made(after_ms: int, hour: int) -> None:
    """Counted from 1970."""
    assert hour == hour_of(last_id(7 * HOUR_MS + after_ms))


def test_a_checksum_depends_on_id_and_text() -> None:
    """It is the same in every process: nodes compare it."""
    assert 0xCB29CCDB == checksum("id", "text")
    assert 3 == len({checksum("id", "text"), checksum("id", "texts"), checksum("it", "text")})


@pytest.mark.parametrize("fields", ["{bad", "[]", "5", '{"a": {"b": [1, null]}}', "[" * 5_000])
def test_fields_of_a_broken_peer_do_no_harm(opening: Opening, fields: str) -> None:
    """A record is stored as it came; a search does not find its fields."""

    async def steps(journal: Journal) -> None:
        entry = Entry(last_id(4_102_444_800_000), "text", fields)
        await journal.commit([range_of([entry], origin=ONE, key="key")], None)
        assert [entry] == bare((await journal.search(Search("text"), "", 10)).entries)
        assert [] == (await journal.search(Search(fields=(("a", "1"),)), "", 10)).entries
        assert digest(entry) != digest(entry._replace(fields=f"{fields}x"))

    run_on(opening, steps)
