"""Tests of common.wire."""

import re
import subprocess
import sys
from typing import Any, get_args

import msgpack
import msgspec
import pytest
import zmq
from hypothesis import given
from hypothesis import strategies as st

from common import codec, wire
from common.codec import Reply, Request
from common.errors import InvalidMessageError
from common.origin import Origin
from common.wire import (
    Append,
    Code,
    Describe,
    Description,
    Entry,
    Failure,
    Known,
    Leased,
    Leave,
    Lookup,
    Page,
    Ping,
    Read,
    Register,
    State,
    Status,
    Stored,
)
from scripts.launcher import Cluster
from scripts.processes import ROOT

KINDS = (*get_args(Request), *get_args(Reply))
ID = "018bcfe5-687b-7fff-bfff-ffffffffffff"
ORIGIN = Origin("order-7", "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01")

ids = st.uuids().map(str)
texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=200)
names = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=64)
requests: st.SearchStrategy[Request] = st.one_of(
    st.just(Ping()),
    st.just(Describe()),
    st.builds(Lookup, name=names),
    st.builds(Register, name=names, address=names, view=st.lists(names, max_size=5).map(tuple)),
    st.builds(Leave, name=names, address=names),
    st.builds(Append, id=ids, msg=texts, key=st.none() | st.from_regex("[!-~]{1,255}", fullmatch=True)),
    st.builds(Read, after=ids | st.just(""), limit=st.integers(1, wire.PAGE_MESSAGES)),
)
replies: st.SearchStrategy[Reply] = st.one_of(
    st.builds(Status, service=names, state=st.sampled_from(State), members=st.integers(0, 100)),
    st.builds(Known, name=names, values=st.lists(names, max_size=5).map(tuple)),
    st.builds(Leased, seconds=st.floats(0, 1e6)),
    st.builds(Stored, id=ids, node=names, replayed=st.booleans()),
    st.builds(Page, entries=st.lists(st.builds(Entry, ids, texts)).map(tuple), next=st.none() | ids, node=names),
    st.builds(Description, text=texts),
    st.builds(Failure, code=st.sampled_from(Code), reason=texts),
)


@given(requests)
def test_a_request_survives_its_frame(request: Request) -> None:
    """Decoding an encoded request gives an equal request."""
    assert (request, None) == codec.decode_request(codec.encode(request))
    assert (request, ORIGIN) == codec.decode_request(codec.encode(request, ORIGIN))


@given(replies)
def test_a_reply_survives_its_frame(reply: Reply) -> None:
    """Decoding an encoded reply gives an equal reply."""
    assert reply == codec.decode_reply(codec.encode(reply))


@given(st.binary(max_size=300))
def test_garbage_raises_one_error(frame: bytes) -> None:
    """Bytes that are no message raise InvalidMessageError and nothing else."""
    with pytest.raises(InvalidMessageError):
        codec.decode_request(frame)


@given(
    st.recursive(
        st.none() | st.integers(-(2**63), 2**64 - 1) | texts, lambda x: st.lists(x) | st.dictionaries(texts, x)
    )
)
def test_msgpack_of_something_else_raises_one_error(value: object) -> None:
    """Any msgpack value that is not a message raises InvalidMessageError and nothing else."""
    with pytest.raises(InvalidMessageError):
        codec.decode_request(msgpack.packb(value))


@pytest.mark.parametrize(
    ("frame", "told"),
    [
        (b"\xc1", "not msgpack"),
        (b"", "not msgpack"),
        (msgpack.packb([1, 2]), "must be a msgpack map, not list"),
        (msgpack.packb({"type": "ping"}), "protocol version None is not 1"),
        (msgpack.packb({"v": 2, "type": "ping"}), "protocol version 2 is not 1"),
        (
            msgpack.packb({"v": 1, "type": "pong"}),
            "known types: ping, inspect, roll, lookup, register, leave, append, appendall, read, tail, ",
        ),
        (msgpack.packb({"v": 1}), "type"),
        (
            msgpack.packb({"v": 1, "type": "ping", "origin": ["two words", ORIGIN.traceparent]}),
            "origin: Expected `str` matching regex",
        ),
        (msgpack.packb({"v": 1, "type": "ping", "origin": "x"}), "origin: Expected `array | null`, got `str`"),
        (
            msgpack.packb({"v": 1, "type": "appendall", "entries": [], "origins": [ORIGIN]}),
            "AppendAll: 1 origins for 0 entries",
        ),
        (msgpack.packb({"v": 1, "type": "append", "id": ID}), "msg"),
        (msgpack.packb({"v": 1, "type": "append", "id": ID, "msg": 5}), "Expected `str`, got `int`"),
        (msgpack.packb({"v": 1, "type": "append", "id": "x", "msg": ""}), "id"),
        (msgpack.packb({"v": 1, "type": "append", "id": ID, "msg": "", "ttl": 1}), "ttl"),
        (msgpack.packb({"v": 1, "type": "read", "after": "", "limit": 0}), "limit"),
        (msgpack.packb({"v": 1, "type": "append", "id": ID, "msg": b"\xff"}), "bin"),
        (msgpack.packb({"v": 1, "type": msgpack.ExtType(5, b"")}), "extension type 5"),
        (b"\x81" * 2_000, "not msgpack"),
        (b"\x82\xa1v\x01\xa4type" + b"\x91" * 1_000 + b"\x90", "list is no type of message"),
        (b"\x81\xa1v" + b"\x91" * 1_000 + b"\x90", "protocol version list is not 1"),
        (bytes(wire.REQUEST_BYTES + 1), "over the limit of 1048576"),
    ],
)
def test_a_wrong_frame_is_told_what_is_wrong(frame: bytes, told: str) -> None:
    """The error of a wrong frame names what is wrong with it."""
    with pytest.raises(InvalidMessageError, match=told):
        codec.decode_request(frame)


def test_a_message_that_exists_is_valid() -> None:
    """The constructor refuses wrong types, bad ids and texts over the limit in bytes, also below it in characters."""
    for build in (
        lambda: Append(id=5, msg="x"),  # type: ignore[arg-type]
        lambda: Append(id="not a uuid", msg="x"),
        lambda: Append(id=f"{ID}\n", msg="x"),
        lambda: Append(id=ID, msg="x", key="key\n"),
        lambda: Read(after=f"{ID}\n", limit=1),
        lambda: Append(id=ID, msg="é" * (wire.MESSAGE_BYTES // 2 + 1)),
        lambda: Append(id=ID, msg="\ud800"),
        lambda: Append(id=ID, msg="", key=""),
        lambda: Append(id=ID, msg="", key="two words"),
        lambda: Append(id=ID, msg="", key="x" * 256),
        lambda: Read(after="x", limit=1),
        lambda: Page(entries=(Entry(ID, 5),), next=None, node="n"),  # type: ignore[arg-type]
        lambda: Lookup(name=""),
    ):
        with pytest.raises(InvalidMessageError):
            build()


def test_a_page_at_its_limits_fits_a_frame() -> None:
    """PAGE_MESSAGES messages with PAGE_BYTES of text, and one largest text more, stay below REPLY_BYTES."""
    text = "x" * (wire.PAGE_BYTES // wire.PAGE_MESSAGES)
    entries = (Entry(ID, "x" * wire.MESSAGE_BYTES), *[Entry(ID, text)] * (wire.PAGE_MESSAGES - 1))

    assert len(codec.encode(Page(entries=entries, next=ID, node="n" * 64))) < wire.REPLY_BYTES


def test_the_largest_text_fits_a_request() -> None:
    """A text of MESSAGE_BYTES can be sent."""
    assert len(codec.encode(Append(id=ID, msg="é" * (wire.MESSAGE_BYTES // 2)))) < wire.REQUEST_BYTES


def test_the_page_of_the_wire_has_every_message_and_field() -> None:
    """Each message has its row in docs/wire.md, with all its fields and their defaults."""
    rows = re.findall(r"^\| `(\w+)` \|(.*)\|$", (ROOT / "docs" / "wire.md").read_text(), re.MULTILINE)
    told = {name: row for name, row in rows if name in {kind.__name__.lower() for kind in KINDS}}

    assert {kind.__name__.lower() for kind in KINDS} == set(told)
    for kind in KINDS:
        optional = {field.name for field in msgspec.structs.fields(kind) if not field.required}
        cells = told[kind.__name__.lower()].split("|")
        fields = cells[1] if kind in get_args(Request) else cells[0]
        assert set(kind.__struct_fields__) == set(re.findall(r"`(\w+)`", fields)), kind
        assert optional == set(re.findall(r"`(\w+)` \[", fields)), kind


def test_another_language_can_speak_it(embedded_cluster: Cluster) -> None:
    """Nothing but ZeroMQ and msgpack: a node is looked up, takes a message, gives it back, and says what is wrong."""
    with zmq.Context() as context:

        def ask(address: str, **fields: object) -> dict[str, Any]:
            with context.socket(zmq.REQ) as socket:
                socket.setsockopt(zmq.RCVTIMEO, 5_000)
                socket.setsockopt(zmq.LINGER, 0)
                socket.connect(f"tcp://{address}")
                socket.send(msgpack.packb({"v": 1, **fields}))
                reply: dict[str, Any] = msgpack.unpackb(socket.recv())
                return reply

        known = ask(embedded_cluster.settings.registry.addresses[0], type="lookup", name="logging-service")
        node = known["values"][0]
        stored = ask(node, type="append", id=ID, msg="from afar é")
        page = ask(node, type="read", after="", limit=10)
        wrong = ask(node, type="append", id="7", msg="x")

    assert {"v": 1, "type": "known", "name": "logging-service", "values": known["values"]} == known
    assert (1, "stored", ID, node, False) == tuple(stored[name] for name in ("v", "type", "id", "node", "replayed"))
    assert ([[ID, "from afar é"]], None) == (page["entries"], page["next"])
    assert ("failure", "invalid") == (wrong["type"], wrong["code"])
    assert "id" in wrong["reason"]


AT_ONCE = """
import sys, threading
from typing import NamedTuple
from common.wire import Name, Wire

sys.setswitchinterval(1e-6)
for _ in range(40):
    class Inner(NamedTuple):
        name: Name

    class Fresh(Wire, frozen=True, kw_only=True):
        first: Name
        inner: tuple[Inner, ...]

    def make():
        barrier.wait()
        Fresh(first="a", inner=[["b"]])

    barrier = threading.Barrier(8)
    threads = [threading.Thread(target=make) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
print("alive")
"""


def test_many_threads_may_make_the_first_message_of_a_type_at_once() -> None:
    """A facade that has just started asks all nodes at once; msgspec crashed it when two answers came together."""
    ended = subprocess.run([sys.executable, "-c", AT_ONCE], capture_output=True, text=True, check=False, timeout=60)
    assert (0, "alive\n", "") == (ended.returncode, ended.stdout, ended.stderr)
