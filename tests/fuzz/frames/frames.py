"""Strategies for frames of the wire protocol: valid messages, derived from the message types, and invalid bytes."""

from functools import cache
from typing import Any, get_args

import msgpack
import msgspec
from hypothesis import strategies as st
from msgspec import inspect

from common.protocol import codec, content, messages
from common.protocol.codec import Reply, Request
from common.telemetry.request_context import RequestContext

LONGEST = 3  # items of a list; other tests check the limits of lists
FAR = 2**63 - 1  # largest number where a field has no upper limit
# Addresses at which nothing listens; a fuzzed Register may name them without harm.
LOOPBACK = ("127.0.0.1:1", "127.0.0.1:9", "[::1]:1", "127.0.0.1:99999")
NAMES = ("logging-service", "messages-service", "facade", "hazelcast-clients", *LOOPBACK)

# Byte strings that are not messages, or are at the edge of being valid.
_HOSTILE = (
    # truncated or reserved formats, and lengths far beyond the frame
    b"",
    b"\xc1",
    b"\x80",
    b"\x90",
    b"\xc0",
    b"\xdd\xff\xff\xff\xff",
    b"\xdf\xff\xff\xff\xff",
    b"\xdb\xff\xff\xff\xff",
    b"\xc6\xff\xff\xff\xff",
    # extension types
    b"\xc9\xff\xff\xff\xff\x05",
    b"\xc7\x00\x05",
    b"\xd4\x05\x00",
    b"\xd6\xff\x00\x00\x00\x00",
    # deep nesting
    b"\x91" * 600,
    b"\x81" * 600,
    b"\x91" * 2_000 + b"\x90",
    b"\x81\xa1v" * 600,
    b"\xdc\x03\xe8" + b"\x90" * 1_000,
    b"\x82\xa1v\x03\xa4type" + b"\x91" * 500 + b"\x90",
    # a version that is a float or a boolean
    b"\x81\xa1v\xca\x7f\xc0",
    b"\x82\xa1v\xcb@\x08\x00\x00\x00\x00\x00\x00\xa4type\xa4ping",
    b"\x82\xa1v\xc3\xa4type\xa4ping",
    # maps with other keys than text, with the same key twice, with trailing bytes
    b"\x82\xa1v\x03\xa4type\xa4ping\xc0",
    b"\x81\x01\x02",
    b"\x81\xc0\x01",
    b"\x81\x90\x01",
    b"\x83\xa1v\x03\xa4type\xa4ping\xa4self\x01",
    b"\x83\xa1v\x03\xa4type\xa4ping\xa4ping\xdc\xff\xff",
    b"\x84\xa1v\x03\xa1v\x02\xa4type\xa4ping\xa4type\xa6report",
    b"\xde\x00\x21" + b"\xa1v\x03" * 33,
)

# Requests that a registry grants; in generated examples a name that it knows is rare.
KNOWN_NAMES = (
    codec.encode(messages.Lookup(name="messages-service")),
    codec.encode(messages.Deregister(name="messages-service", address=LOOPBACK[0])),
)

texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=80)
anything: st.SearchStrategy[Any] = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**64 - 1)
    | st.floats()
    | texts
    | st.binary(max_size=20)
    | st.builds(msgpack.ExtType, st.integers(0, 127), st.binary(max_size=20)),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(texts, inner, max_size=4),
    max_leaves=10,
)

PAST = r"\A0000[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}\Z"  # ids of 1970 to 1978


@cache
def fields_of(kind: type[messages.WireMessage]) -> st.SearchStrategy[dict[str, Any]]:
    """The fields of a valid message of a type, as msgpack values."""
    needed: dict[str, st.SearchStrategy[Any]] = {}
    optional: dict[str, st.SearchStrategy[Any]] = {}
    for field in msgspec.structs.fields(kind):
        if field.name not in codec.FRAME_FIELDS:
            (needed if field.required else optional)[field.name] = _of(inspect.type_info(field.type))
    return st.fixed_dictionaries(needed, optional=optional).map(_consistent)


def _consistent(fields: dict[str, Any]) -> dict[str, Any]:
    """Make fields agree that belong together: one context for each entry, and fields of messages in compact JSON."""
    for entry in fields["entries"] if isinstance(fields.get("entries"), list) else ():
        entry[2] = content.canonical({"a": entry[2]}) if entry[2] else ""
    if "contexts" in fields:
        entries = fields.get("entries", [])
        shortest = min(len(entries), len(fields["contexts"]))
        del entries[shortest:], fields["contexts"][shortest:]
    return fields


def _of(info: inspect.Type) -> st.SearchStrategy[Any]:  # noqa: C901, PLR0911, PLR0912 (a table of types)
    """Valid values of a type, as msgpack values."""
    match info:
        case inspect.StrType(pattern=str(pattern)) if content.UUID in pattern:
            return st.from_regex(pattern) | st.from_regex(PAST)  # a node refuses ids from the future, so half are old
        case inspect.StrType(pattern=str(pattern)):
            return st.from_regex(pattern)  # not fullmatch, to include a newline that `$` admits
        case inspect.StrType(min_length=least, max_length=most):
            return st.sampled_from(NAMES) | texts.filter(lambda text: (least or 0) <= len(text) <= (most or FAR))
        case inspect.BoolType():
            return st.booleans()
        case inspect.IntType(ge=least, le=most):
            return st.integers(-FAR if least is None else least, FAR if most is None else most)
        case inspect.FloatType(ge=least):
            return st.floats(min_value=least, allow_nan=False)
        case inspect.EnumType(cls=cls):
            return st.sampled_from([member.value for member in cls])
        case inspect.VarTupleType(item_type=item):
            return st.lists(_of(item), max_size=LONGEST)
        case inspect.TupleType(item_types=types):
            return st.tuples(*map(_of, types)).map(list)
        case inspect.NamedTupleType(fields=fields):
            return st.tuples(*(_of(field.type) for field in fields)).map(list)
        case inspect.UnionType(types=types):
            return st.one_of(*map(_of, types))
        case inspect.NoneType():
            return st.none()
        case _:
            raise NotImplementedError(f"no strategy for {info}")


_contexts = _of(inspect.type_info(RequestContext))
_tagged = {kind.__struct_config__.tag: kind for kind in (*get_args(Request), *get_args(Reply))}
_tags = st.sampled_from([*_tagged])


@st.composite
def valid_frames(draw: st.DrawFn, kinds: tuple[type[messages.WireMessage], ...] = tuple(_tagged.values())) -> bytes:
    """A valid message of one of these types, by default of any type."""
    return _packed(_map_of(draw, draw(st.sampled_from(kinds))))


def _map_of(draw: st.DrawFn, kind: type[messages.WireMessage]) -> dict[Any, Any]:
    """A valid message as a map, half of the requests with a request context."""
    with_context = kind in get_args(Request) and draw(st.booleans())
    context = {"context": draw(_contexts)} if with_context else {}
    return {"v": codec.VERSION, "type": kind.__struct_config__.tag, **context, **draw(fields_of(kind))}


@st.composite
def wrong_frames(draw: st.DrawFn) -> bytes:
    """A message with a field that is missing, additional, or has a wrong value, or with the type of another message."""
    found = _map_of(draw, _tagged[draw(_tags)])
    for _ in range(draw(st.integers(1, 2))):
        match draw(st.integers(0, 3)):
            case 0:
                found.pop(draw(st.sampled_from([*found] or [""])), None)
            case 1:
                found[draw(texts | st.sampled_from(["context", "v", "type", "id", "entries", "__class__"]))] = draw(
                    anything
                )
            case 2:
                found[draw(st.sampled_from([*found] or ["v"]))] = draw(anything)
            case _:
                found["type"] = draw(_tags)
    return _packed(found)


def frames() -> st.SearchStrategy[bytes]:
    """Frames of all kinds; half are valid, because tests.fuzz.corpus makes invalid ones of these by mutation."""
    cut = st.tuples(valid_frames(), st.integers(0, 200)).map(lambda drawn: drawn[0][: drawn[1]])
    other = st.one_of(st.sampled_from(_HOSTILE), st.binary(max_size=80), anything.map(_packed), cut)
    requests = valid_frames(get_args(Request))
    return st.integers(0, 7).flatmap(
        lambda number: (requests, requests, requests, valid_frames(), wrong_frames(), wrong_frames(), other, other)[
            number
        ]
    )


def _packed(value: Any) -> bytes:
    packed: bytes = msgpack.packb(value, unicode_errors="surrogatepass")
    return packed
