"""Tests of common.protocol.codec: frames of valid messages, and the errors for all others."""

import msgpack
import pytest
from hypothesis import given
from hypothesis import strategies as st

from common.errors import InvalidMessageError
from common.protocol import codec, messages
from common.protocol.admin import HazelcastMember, Inspect, LeaseInfo, Leases, ListLeases, Report
from common.protocol.codec import Reply, Request
from common.protocol.content import Entry, canonical
from common.protocol.messages import (
    Append,
    Appended,
    Code,
    Deregister,
    Describe,
    Description,
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
from common.protocol.search import Search
from common.protocol.vectors import VectorEntry
from common.telemetry.request_context import RequestContext

ID = "018bcfe5-687b-7fff-bfff-ffffffffffff"
CONTEXT = RequestContext("order-7", "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01")
RENEW = {"node": "a:1", "incarnation": 1, "registry": 0, "ready": True}
ids = st.uuids().map(str)
texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=200)
names = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=64)
keys = st.just("") | st.from_regex("[!-~]{1,255}", fullmatch=True)
numbers = st.integers(0, 2**63 - 1)
values = texts | st.booleans() | st.integers(-(2**63), 2**63) | st.floats(allow_infinity=False, allow_nan=False)
fields = st.dictionaries(
    names, texts | st.booleans() | st.integers(-(2**63), 2**63) | st.floats(allow_infinity=False, allow_nan=False)
).map(lambda found: canonical(found) if found else "")
entries = st.lists(st.builds(Entry, ids, texts, fields, keys, names), max_size=5).map(tuple)
searches = st.builds(Search, texts, st.lists(st.tuples(names, texts), max_size=3).map(tuple))
version_vectors = st.lists(st.builds(VectorEntry, numbers, numbers), max_size=5).map(tuple)
identities = st.builds(Identity, names, numbers)
in_sync = st.builds(
    InSyncSet, numbers, st.lists(st.builds(Replica, names, numbers, numbers, st.booleans()), max_size=3).map(tuple)
)
record = st.builds(Record, numbers, ids, texts, keys.map(lambda key: key or None), numbers, texts)
records = st.lists(record, max_size=5).map(tuple)
sender = {"node": names, "incarnation": numbers}
state = {**sender, "in_sync": in_sync, "vector": version_vectors, "pending": version_vectors, "watermark": numbers}
requests: st.SearchStrategy[Request] = st.one_of(
    st.just(Ping()),
    st.just(Inspect()),
    st.just(ListLeases()),
    st.just(Describe()),
    st.builds(Lookup, name=names),
    st.builds(Register, name=names, address=names),
    st.builds(Deregister, name=names, address=names),
    st.builds(
        Append, entries=st.builds(Entry, ids, texts, fields, keys).map(lambda entry: (entry,)), forwarded=st.booleans()
    ),
    st.builds(Append, entries=entries),
    st.builds(
        Read,
        after=ids | st.just(""),
        limit=st.integers(1, messages.PAGE_MESSAGES),
        search=searches,
        session=version_vectors,
    ),
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
        watermark=numbers,
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
    st.builds(
        Appended,
        node=names,
        stored_as=st.lists(ids, max_size=3).map(tuple),
        conflicts=st.lists(numbers, max_size=3).map(tuple),
        expired=st.lists(numbers, max_size=3).map(tuple),
        vector=version_vectors,
    ),
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
def test_a_decoded_request_equals_the_encoded_one(request: Request) -> None:
    """Encoding and decoding change nothing, with and without a request context."""
    assert (request, None) == codec.decode_request(codec.encode(request))
    assert (request, CONTEXT) == codec.decode_request(codec.encode(request, CONTEXT))


@given(replies)
def test_a_decoded_reply_equals_the_encoded_one(reply: Reply) -> None:
    """Encoding and decoding change no reply of any type."""
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
    """A msgpack value that is no message raises InvalidMessageError and nothing else."""
    with pytest.raises(InvalidMessageError):
        codec.decode_request(msgpack.packb(value))


@pytest.mark.parametrize(
    ("frame", "message"),
    [
        (b"\xc1", "not msgpack"),
        (b"", "not msgpack"),
        (msgpack.packb([1, 2]), "must be a msgpack map, not list"),
        (msgpack.packb({"type": "ping"}), "protocol version None is not 4"),
        (msgpack.packb({"v": 1, "type": "ping"}), "protocol version 1 is not 4"),
        (
            msgpack.packb({"v": 4, "type": "pong"}),
            "known types: ping, inspect, listleases, lookup, register, deregister, append, read, tail, ",
        ),
        (msgpack.packb({"v": 4}), "type"),
        (
            msgpack.packb({"v": 4, "type": "ping", "context": ["two words", CONTEXT.traceparent]}),
            r"Ping: Expected `str` matching regex .* at `\$\.context",
        ),
        (
            msgpack.packb({"v": 4, "type": "ping", "context": "x"}),
            r"Ping: Expected `array \| null`, got `str` - at `\$\.context",
        ),
        (msgpack.packb({"v": 4, "type": "ping", "origin": ["order-7", CONTEXT.traceparent]}), "origin"),
        (
            msgpack.packb({"v": 4, "type": "append", "entries": [], "contexts": [CONTEXT]}),
            "Append: 1 contexts for 0 entries",
        ),
        (msgpack.packb({"v": 4, "type": "append"}), "entries"),
        (msgpack.packb({"v": 4, "type": "append", "entries": [[ID, 5]]}), "Expected `str`, got `int`"),
        (msgpack.packb({"v": 4, "type": "append", "entries": [["x", ""]]}), "Expected `str` matching regex"),
        (msgpack.packb({"v": 4, "type": "append", "entries": [], "ttl": 1}), "ttl"),
        (msgpack.packb({"v": 4, "type": "append", "entries": [], "key": "k"}), "unknown field `key`"),
        (msgpack.packb({"v": 4, "type": "read", "after": "", "limit": 0}), "limit"),
        (msgpack.packb({"v": 4, "type": "append", "entries": [[ID, b"\xff"]]}), "bin"),
        (msgpack.packb({"v": 4, "type": msgpack.ExtType(5, b"")}), "extension type 5"),
        (b"\x81" * 2_000, "not msgpack"),
        (b"\x82\xa1v\x04\xa4type" + b"\x91" * 1_000 + b"\x90", "list is no type of message"),
        (b"\x81\xa1v" + b"\x91" * 1_000 + b"\x90", "protocol version list is not 4"),
        (bytes(messages.REQUEST_BYTES + 1), "over the limit of 1048576"),
        (
            msgpack.packb({"v": 4, "type": "renew", **RENEW, "in_sync": [1, [["a:1", 1, 1, True]] * (MEMBERS + 1)]}),
            "Renew: Expected `array` of length <= 100",
        ),
        (
            msgpack.packb({"v": 4, "type": "renew", **RENEW, "in_sync": [1, [["a:1", "1", 1, True]]]}),
            "Renew: Expected `int`, got `str`",
        ),
    ],
)
def test_the_error_of_an_invalid_frame_says_what_is_wrong(frame: bytes, message: str) -> None:
    """It names the type, the field, and what was expected."""
    with pytest.raises(InvalidMessageError, match=message):
        codec.decode_request(frame)


def test_a_long_array_is_refused_before_it_is_decoded() -> None:
    """A frame of 1 MB would take a node 0.3 s, for which it would be fenced."""
    head = msgpack.packb({"v": 4, "type": "join", "node": "a:1", "incarnation": 1, "in_sync": [0, []]})
    vector = b"\xdd" + (300_000).to_bytes(4, "big") + b"\x92\x00\x00" * 300_000
    with pytest.raises(InvalidMessageError, match="300000 exceeds max_array_len"):
        codec.decode_request(bytes([head[0] + 1]) + head[1:] + b"\xa6vector" + vector)
