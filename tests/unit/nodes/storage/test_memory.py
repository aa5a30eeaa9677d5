"""Tests of nodes.storage.memory beyond the contract of a journal in test_protocol.py: what tests rely on."""

import asyncio
import itertools

from common.ids import first_id
from common.protocol.content import Entry
from nodes.storage.memory import MemoryJournal, MemoryTables
from nodes.storage.protocol import Claim, Size, digest
from tests.support.nodes.journals import ORIGIN, numbered_entries, range_of


def journal_of(tables: MemoryTables) -> MemoryJournal:
    """A journal with this content, whose incarnations count from 1."""
    return MemoryJournal(tables, itertools.count(1).__next__)


def test_a_commit_within_the_call_is_left_to_a_task() -> None:
    """So a test can hold up every commit; nothing is stored by the call that was refused."""
    tables = MemoryTables()

    assert not journal_of(tables).commit_now([range_of(numbered_entries(1))], None)
    assert ({}, []) == (tables.vector, tables.ids())


def test_a_commit_is_visible_in_the_tables_without_waiting() -> None:
    """A simulated disk keeps the tables when its node dies, and the next journal opens with them."""
    tables, entries = MemoryTables(), numbered_entries(3)
    tables.commit([range_of(entries[::-1])], None)
    journal = journal_of(tables)

    assert [entry.id for entry in entries] == tables.ids()
    assert {ORIGIN: 3} == journal.opened.vector
    assert Size(3, 0, 0) == asyncio.run(journal.size())


def test_a_journal_opens_with_a_copy_of_the_vector() -> None:
    """What was on the disk at the start does not change with later commits."""
    tables = MemoryTables()
    journal = journal_of(tables)
    tables.commit([range_of(numbered_entries(1))], None)

    assert ({}, {ORIGIN: 1}) == (journal.opened.vector, tables.vector)


def test_idempotency_keys_never_expire() -> None:
    """A simulation needs no clock for them, even if the message is older than any lifetime of a key."""
    tables = MemoryTables()
    old = Entry(first_id(1), "text")
    tables.commit([range_of([old], key="key")], None)

    assert Claim(old.id, digest(Entry("", "text"))) == asyncio.run(journal_of(tables).find_key("key"))
