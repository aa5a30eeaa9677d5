"""Tests of common.protocol: what is a valid message, its frame, and its documentation."""

import enum
import itertools
import operator
import re
import subprocess
import sys
from collections.abc import Callable
from typing import Any, get_args

import msgpack
import msgspec
import pytest
import zmq
from hypothesis import given
from hypothesis import strategies as st

from common.errors import InvalidMessageError
from common.protocol import codec, messages
from common.protocol.admin import HazelcastMember, Inspect, LeaseInfo, Leases, ListLeases, Report
from common.protocol.codec import Reply, Request
from common.protocol.messages import (
    Append,
    Appended,
    Code,
    Deregister,
    Describe,
    Description,
    Entry,
    Failure,
    LeaseGranted,
    Lookup,
    LookupResult,
    Page,
    Ping,
    Read,
    Register,
    State,
    Status,
    Tail,
    Tailed,
)
from common.protocol.replication import (
    MEMBERS,
    Admit,
    Bootstrap,
    Digest,
    Digested,
    Fence,
    Heartbeat,
    HourDigest,
    Identity,
    InSyncSet,
    Join,
    ListEntries,
    Record,
    Renew,
    Renewed,
    ReplicaState,
    Replicate,
    Replicated,
    Standing,
    Verified,
    Verify,
)
from common.protocol.replication import Member as Replica
from common.protocol.vectors import VECTOR_ENTRIES, VectorEntry
from common.telemetry.request_context import RequestContext
from scripts.launcher.cluster import Cluster
from scripts.launcher.processes import ROOT

KINDS = (*get_args(Request), *get_args(Reply))
ID = "018bcfe5-687b-7fff-bfff-ffffffffffff"
CONTEXT = RequestContext("order-7", "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01")

RENEW = {"node": "a:1", "incarnation": 1, "registry": 0, "ready": True}

ids = st.uuids().map(str)
texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=200)
names = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=64)
keys = st.none() | st.from_regex("[!-~]{1,255}", fullmatch=True)
numbers = st.integers(0, 2**63 - 1)
entries = st.lists(st.builds(Entry, ids, texts), max_size=5).map(tuple)
version_vectors = st.lists(st.builds(VectorEntry, numbers, numbers), max_size=5).map(tuple)
identities = st.builds(Identity, names, numbers)
in_sync = st.builds(
    InSyncSet, numbers, st.lists(st.builds(Replica, names, numbers, numbers, st.booleans()), max_size=3).map(tuple)
)
records = st.lists(st.builds(Record, numbers, ids, texts, keys, numbers), max_size=5).map(tuple)
sender = {"node": names, "incarnation": numbers}
state = {**sender, "in_sync": in_sync, "vector": version_vectors, "pending": version_vectors, "confirmed": numbers}
requests: st.SearchStrategy[Request] = st.one_of(
    st.just(Ping()),
    st.just(Inspect()),
    st.just(ListLeases()),
    st.just(Describe()),
    st.builds(Lookup, name=names),
    st.builds(Register, name=names, address=names),
    st.builds(Deregister, name=names, address=names),
    st.builds(
        Append, entries=st.builds(Entry, ids, texts).map(lambda entry: (entry,)), key=keys, forwarded=st.booleans()
    ),
    st.builds(Append, entries=entries),
    st.builds(Read, after=ids | st.just(""), limit=st.integers(1, messages.PAGE_MESSAGES), session=version_vectors),
    st.builds(Tail, journal=names, after=numbers),
    st.builds(
        Join, **sender, in_sync=in_sync, vector=version_vectors, wants_records=st.booleans(), can_serve=st.booleans()
    ),
    st.builds(Heartbeat, **state),
    st.builds(
        Replicate,
        **sender,
        term=numbers,
        origin=numbers,
        after=numbers,
        upto=numbers,
        records=records,
        confirmed=numbers,
    ),
    st.builds(Renew, **sender, registry=numbers, in_sync=in_sync, ready=st.booleans()),
    st.builds(Fence, **sender, targets=st.lists(identities, max_size=3).map(tuple)),
    st.builds(Admit, **sender, joiner=identities),
    st.builds(Bootstrap, **sender, term=numbers, members=st.lists(identities, min_size=1, max_size=3).map(tuple)),
    st.builds(Digest, from_hour=numbers, until=ids),
    st.builds(ListEntries, after=ids | st.just(""), until=ids),
    st.builds(Verify, until=ids),
)
replies: st.SearchStrategy[Reply] = st.one_of(
    st.builds(Status, service=names, state=st.sampled_from(State), members=st.integers(0, 100)),
    st.builds(
        Report,
        service=names,
        state=st.sampled_from(State),
        members=st.lists(st.builds(HazelcastMember, names, names, numbers), max_size=3).map(tuple),
        term=numbers,
        in_sync=st.lists(names, max_size=3).map(tuple),
        unconfirmed=numbers,
        reason=texts,
    ),
    st.builds(
        Leases,
        leases=st.lists(
            st.builds(LeaseInfo, names, names, st.booleans(), st.booleans(), st.booleans(), st.floats(-1, 1e6)),
            max_size=3,
        ).map(tuple),
        members=st.lists(names, max_size=3).map(tuple),
    ),
    st.builds(LookupResult, name=names, values=st.lists(names, max_size=5).map(tuple)),
    st.builds(LeaseGranted, seconds=st.floats(0, 1e6)),
    st.builds(Appended, node=names, stored_as=ids | st.just(""), origin=numbers, sequence=numbers),
    st.builds(Page, entries=entries, next=st.none() | ids, node=names, vector=version_vectors),
    st.builds(Tailed, journal=names, entries=entries, next=numbers, more=st.booleans(), node=names),
    st.builds(Description, text=texts),
    st.builds(ReplicaState, **state, ready=st.booleans(), can_serve=st.booleans()),
    st.builds(Replicated, **sender, term=numbers, origin=numbers, upto=numbers, in_sync=st.none() | in_sync),
    st.builds(
        Renewed,
        registry=numbers,
        standing=st.sampled_from(Standing),
        in_sync=in_sync,
        live=st.lists(names, max_size=3).map(tuple),
    ),
    st.builds(Digested, hours=st.lists(st.builds(HourDigest, numbers, numbers, numbers), max_size=5).map(tuple)),
    st.builds(Verified, node=names, messages=numbers, digest=numbers, repaired=numbers),
    st.builds(Failure, code=st.sampled_from(Code), reason=texts),
)


@given(requests)
def test_a_request_survives_its_frame(request: Request) -> None:
    """Decoding an encoded request gives an equal request."""
    assert (request, None) == codec.decode_request(codec.encode(request))
    assert (request, CONTEXT) == codec.decode_request(codec.encode(request, CONTEXT))


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
        (msgpack.packb({"type": "ping"}), "protocol version None is not 3"),
        (msgpack.packb({"v": 1, "type": "ping"}), "protocol version 1 is not 3"),
        (
            msgpack.packb({"v": 3, "type": "pong"}),
            "known types: ping, inspect, listleases, lookup, register, deregister, append, read, tail, ",
        ),
        (msgpack.packb({"v": 3}), "type"),
        (
            msgpack.packb({"v": 3, "type": "ping", "context": ["two words", CONTEXT.traceparent]}),
            r"Ping: Expected `str` matching regex .* at `\$\.context",
        ),
        (
            msgpack.packb({"v": 3, "type": "ping", "context": "x"}),
            r"Ping: Expected `array \| null`, got `str` - at `\$\.context",
        ),
        (msgpack.packb({"v": 3, "type": "ping", "origin": ["order-7", CONTEXT.traceparent]}), "origin"),
        (
            msgpack.packb({"v": 3, "type": "append", "entries": [], "contexts": [CONTEXT]}),
            "Append: 1 contexts for 0 entries",
        ),
        (msgpack.packb({"v": 3, "type": "append"}), "entries"),
        (msgpack.packb({"v": 3, "type": "append", "entries": [[ID, 5]]}), "Expected `str`, got `int`"),
        (msgpack.packb({"v": 3, "type": "append", "entries": [["x", ""]]}), "Expected `str` matching regex"),
        (msgpack.packb({"v": 3, "type": "append", "entries": [], "ttl": 1}), "ttl"),
        (msgpack.packb({"v": 3, "type": "append", "entries": [], "key": "k"}), "one key for 0 entries"),
        (msgpack.packb({"v": 3, "type": "append", "entries": [[ID, ""]] * 2, "key": "k"}), "one key for 2 entries"),
        (msgpack.packb({"v": 3, "type": "read", "after": "", "limit": 0}), "limit"),
        (msgpack.packb({"v": 3, "type": "append", "entries": [[ID, b"\xff"]]}), "bin"),
        (msgpack.packb({"v": 3, "type": msgpack.ExtType(5, b"")}), "extension type 5"),
        (b"\x81" * 2_000, "not msgpack"),
        (b"\x82\xa1v\x03\xa4type" + b"\x91" * 1_000 + b"\x90", "list is no type of message"),
        (b"\x81\xa1v" + b"\x91" * 1_000 + b"\x90", "protocol version list is not 3"),
        (bytes(messages.REQUEST_BYTES + 1), "over the limit of 1048576"),
        (
            msgpack.packb({"v": 3, "type": "renew", **RENEW, "in_sync": [1, [["a:1", 1, 1, True]] * (MEMBERS + 1)]}),
            "Renew: Expected `array` of length <= 100",
        ),
        (
            msgpack.packb({"v": 3, "type": "renew", **RENEW, "in_sync": [1, [["a:1", "1", 1, True]]]}),
            "Renew: Expected `int`, got `str`",
        ),
    ],
)
def test_a_wrong_frame_is_told_what_is_wrong(frame: bytes, told: str) -> None:
    """The error of a wrong frame names what is wrong with it."""
    with pytest.raises(InvalidMessageError, match=told):
        codec.decode_request(frame)


def test_a_time_is_a_number() -> None:
    """Msgpack has NaN, which is above and below nothing."""
    called = Leases(leases=(LeaseInfo("x", "a:1", True, True, True, float("nan")),), members=())
    with pytest.raises(InvalidMessageError, match="Expected `float` >= -1"):
        codec.decode_reply(codec.encode(called))


def test_a_long_array_is_refused_at_its_head() -> None:
    """It is not made first: that of a frame of 1 MB would take 0.3 s of a node, which is fenced then."""
    head = msgpack.packb({"v": 3, "type": "join", "node": "a:1", "incarnation": 1, "in_sync": [0, []]})
    vector = b"\xdd" + (300_000).to_bytes(4, "big") + b"\x92\x00\x00" * 300_000
    with pytest.raises(InvalidMessageError, match="300000 exceeds max_array_len"):
        codec.decode_request(bytes([head[0] + 1]) + head[1:] + b"\xa6vector" + vector)


def test_a_message_in_a_frame_is_valid() -> None:
    """Wrong types, bad ids and texts over the limit in bytes are refused, also below it in characters."""
    builds: tuple[Callable[[], Request], ...] = (
        lambda: Append(entries=(Entry(5, "x"),)),  # type: ignore[arg-type]
        lambda: Append(entries=(Entry("not a uuid", "x"),)),
        lambda: Append(entries=(Entry(f"{ID}\n", "x"),)),
        lambda: Append(entries=(Entry(ID, "x"),), key="key\n"),
        lambda: Read(after=f"{ID}\n", limit=1),
        lambda: Append(entries=(Entry(ID, "é" * (messages.MESSAGE_BYTES // 2 + 1)),)),
        lambda: Append(entries=(Entry(ID, "\ud800"),)),
        lambda: Append(entries=(Entry(ID, ""),), key=""),
        lambda: Append(entries=(Entry(ID, ""),), key="two words"),
        lambda: Append(entries=(Entry(ID, ""),), key="x" * 256),
        lambda: Read(after="x", limit=1),
        lambda: Append(entries=(Entry(ID, ""),) * (messages.PAGE_MESSAGES + 1)),
        lambda: Lookup(name=""),
        lambda: Read(after="", limit=1, session=((-1, 1),)),  # type: ignore[arg-type]
        lambda: Read(after="", limit=1, session=(VectorEntry(2**63, 1),)),
        lambda: Fence(node="a:1", incarnation=1, targets=(Identity("a:1", "1"),)),  # type: ignore[arg-type]
    )
    for build in builds:
        with pytest.raises(InvalidMessageError):
            codec.decode_request(codec.encode(build()))


def test_a_page_at_its_limits_fits_a_frame() -> None:
    """PAGE_MESSAGES messages with PAGE_BYTES of text, and one largest text more, stay below REPLY_BYTES."""
    text = "x" * (messages.PAGE_BYTES // messages.PAGE_MESSAGES)
    entries = (Entry(ID, "x" * messages.MESSAGE_BYTES), *[Entry(ID, text)] * (messages.PAGE_MESSAGES - 1))

    assert len(codec.encode(Page(entries=entries, next=ID, node="n" * 64))) < messages.REPLY_BYTES


def test_a_vector_at_its_limit_fits_a_frame() -> None:
    """VECTOR_ENTRIES incarnations: a node that was started 10,000 times can still say what it has, and is read."""
    vector = (VectorEntry(2**63 - 1, 2**63 - 1),) * VECTOR_ENTRIES
    join = Join(node="a:1", incarnation=1, in_sync=InSyncSet(0, ()), vector=vector, wants_records=True, can_serve=True)

    frame = codec.encode(join)
    assert len(frame) < messages.REQUEST_BYTES / 4
    assert (join, None) == codec.decode_request(frame)


def test_the_largest_text_fits_a_request() -> None:
    """A text of MESSAGE_BYTES can be sent."""
    assert len(codec.encode(Append(entries=(Entry(ID, "é" * (messages.MESSAGE_BYTES // 2)),)))) < messages.REQUEST_BYTES


def test_the_page_of_the_wire_has_every_message_and_field() -> None:
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
def test_the_page_of_the_wire_has_every_word(words: type[enum.StrEnum]) -> None:
    """States, codes and standings: a client may meet any of them."""
    page = (ROOT / "docs" / "wire.md").read_text()

    assert [] == [word for word in words if f"`{word}`" not in page]


def test_another_language_can_speak_it(embedded_cluster: Cluster) -> None:
    """Nothing but ZeroMQ and msgpack: a node is looked up, takes a message, gives it back, and says what is wrong."""
    with zmq.Context() as context:

        def ask(address: str, **fields: object) -> dict[str, Any]:
            with context.socket(zmq.REQ) as socket:
                socket.setsockopt(zmq.RCVTIMEO, 5_000)
                socket.setsockopt(zmq.LINGER, 0)
                socket.connect(f"tcp://{address}")
                socket.send(msgpack.packb({"v": 3, **fields}))
                reply: dict[str, Any] = msgpack.unpackb(socket.recv())
                return reply

        known = ask(embedded_cluster.settings.registry.addresses[0], type="lookup", name="logging-service")
        node = known["values"][0]
        stored = ask(node, type="append", entries=[[ID, "from afar é"]])
        page = ask(node, type="read", after="", limit=10)
        seen = [[stored["origin"], stored["sequence"]]]
        others = [ask(other, type="read", after="", limit=10, session=seen) for other in known["values"]]
        behind = ask(node, type="read", after="", limit=10, session=[[stored["origin"], 1_000]])
        wrong = ask(node, type="append", entries=[["7", "x"]])

    assert {"v": 3, "type": "lookupresult", "name": "logging-service", "values": known["values"]} == known
    assert (3, "appended", node) == tuple(stored[name] for name in ("v", "type", "node"))
    assert ([[ID, "from afar é"]], None) == (page["entries"], page["next"])
    assert [[[ID, "from afar é"]]] * len(known["values"]) == [other["entries"] for other in others]
    assert ("failure", "behind") == (behind["type"], behind["code"])
    assert ("failure", "invalid") == (wrong["type"], wrong["code"])
    assert "entries" in wrong["reason"]


AT_ONCE = """
import sys, threading
from typing import NamedTuple
from common.protocol.messages import Name, WireMessage

sys.setswitchinterval(1e-6)
for _ in range(40):
    class Inner(NamedTuple):
        name: Name

    class Fresh(WireMessage, frozen=True, kw_only=True):
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
