"""Tests of common.protocol.messages: which messages are valid, their limits, and docs/wire.md."""

import enum
import itertools
import operator
import re
import subprocess
import sys
from collections.abc import Callable
from typing import get_args

import msgspec
import pytest

from common.errors import InvalidMessageError
from common.protocol import codec, content, messages
from common.protocol.codec import Reply, Request
from common.protocol.content import Entry
from common.protocol.messages import Append, Code, Lookup, Page, Read, State
from common.protocol.replication import (
    Fence,
    Identity,
    Standing,
)
from scripts.launcher.processes import ROOT

KINDS = (*get_args(Request), *get_args(Reply))
ID = "018bcfe5-687b-7fff-bfff-ffffffffffff"


def test_an_invalid_message_is_refused() -> None:
    """Wrong types, invalid ids, and texts over a limit in bytes, although below it in characters, are refused."""
    builds: tuple[Callable[[], Request], ...] = (
        lambda: Append(entries=(Entry(5, "x"),)),  # type: ignore[arg-type]
        lambda: Append(entries=(Entry("not a uuid", "x"),)),
        lambda: Append(entries=(Entry(f"{ID}\n", "x"),)),
        lambda: Append(entries=(Entry(ID, "x", key="key\n"),)),
        lambda: Read(after=f"{ID}\n", limit=1),
        lambda: Append(entries=(Entry(ID, "é" * (content.MESSAGE_BYTES // 2 + 1)),)),
        lambda: Append(entries=(Entry(ID, "\ud800"),)),
        lambda: Append(entries=(Entry(ID, "", key="two words"),)),
        lambda: Append(entries=(Entry(ID, "", key="x" * 256),)),
        lambda: Append(entries=(Entry(ID, "", "x" * (content.FIELDS_BYTES + 1)),)),
        lambda: Append(entries=(Entry(ID, "", node="n" * 65),)),
        lambda: Read(after="x", limit=1),
        lambda: Append(entries=(Entry(ID, ""),) * (messages.PAGE_MESSAGES + 1)),
        lambda: Lookup(name=""),
        lambda: Fence(node="a:1", incarnation=1, targets=(Identity("a:1", "1"),)),  # type: ignore[arg-type]
    )
    for build in builds:
        with pytest.raises(InvalidMessageError):
            codec.decode_request(codec.encode(build()))


def test_a_page_at_its_limits_fits_a_frame() -> None:
    """PAGE_MESSAGES messages with PAGE_BYTES of text, and one of the largest messages more, are below REPLY_BYTES."""
    text = "x" * (messages.PAGE_BYTES // messages.PAGE_MESSAGES)
    largest = Entry(ID, "x" * content.MESSAGE_BYTES, "x" * content.FIELDS_BYTES, node="n" * 64)
    entries = (largest, *[Entry(ID, text, node="n" * 64)] * (messages.PAGE_MESSAGES - 1))

    assert len(codec.encode(Page(entries=entries, next=ID, node="n" * 64))) < messages.REPLY_BYTES


def test_the_largest_text_fits_a_request() -> None:
    """A text of MESSAGE_BYTES can be sent."""
    assert len(codec.encode(Append(entries=(Entry(ID, "é" * (content.MESSAGE_BYTES // 2)),)))) < messages.REQUEST_BYTES


def test_the_wire_document_has_every_message_and_field() -> None:
    """Each message has its row in docs/wire.md, or several, with all its fields and which of them have a default."""
    rows = re.findall(r"^\| `(\w+)` \|(.*)\|$", (ROOT / "docs" / "wire.md").read_text(), re.MULTILINE)
    named = {kind.__name__.lower() for kind in KINDS}
    documented: dict[str, list[str]] = {}
    for name, group in itertools.groupby(rows, key=operator.itemgetter(0)):
        if name in named:
            documented.setdefault(name, [row for _, row in group])  # a field may have the name of a message

    assert named == set(documented)
    for kind in KINDS:
        optional = {field.name for field in msgspec.structs.fields(kind) if not field.required} - {*codec.FRAME_FIELDS}
        column = 1 if kind in get_args(Request) else 0
        fields = " ".join(row.split("|")[column] for row in documented[kind.__name__.lower()])
        assert {*kind.__struct_fields__} - {*codec.FRAME_FIELDS} == set(re.findall(r"`(\w+)`", fields)), kind
        assert optional == set(re.findall(r"`(\w+)` \[", fields)), kind


@pytest.mark.parametrize("words", [State, Code, Standing])
def test_the_wire_document_has_every_state_code_and_standing(words: type[enum.StrEnum]) -> None:
    """A client may get any of them."""
    page = (ROOT / "docs" / "wire.md").read_text()

    assert [] == [word for word in words if f"`{word}`" not in page]


CONCURRENT_FIRST_USE = """
import sys, threading
from typing import NamedTuple
from common.protocol.messages import Name, WireMessage

sys.setswitchinterval(1e-6)
for _ in range(40):
    class Inner(NamedTuple):
        name: Name

    class New(WireMessage, frozen=True, kw_only=True):
        first: Name
        inner: tuple[Inner, ...]

    def make():
        barrier.wait()
        New(first="a", inner=[["b"]])

    barrier = threading.Barrier(8)
    threads = [threading.Thread(target=make) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
print("alive")
"""


def test_many_threads_may_make_the_first_message_of_a_type_at_once() -> None:
    """By itself msgspec crashes if two threads use a type for the first time at once."""
    ended = subprocess.run(
        [sys.executable, "-c", CONCURRENT_FIRST_USE], capture_output=True, text=True, check=False, timeout=60
    )
    assert (0, "alive\n", "") == (ended.returncode, ended.stdout, ended.stderr)
