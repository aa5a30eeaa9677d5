"""Tests of facade.api.body: what is accepted as the body of a POST."""

import json
import tracemalloc

import pytest
from hypothesis import given
from hypothesis import strategies as st

from common.config import Limits
from common.errors import MediaTypeError, RequestError, TooLargeError
from common.protocol.content import MESSAGE_BYTES
from facade.api import body
from facade.api.content.draft import Draft

JSON = "application/json"


@given(st.text(st.characters(exclude_categories=["Cs"]), min_size=1))
def test_any_text_is_kept_as_it_is(text: str) -> None:
    """Any Unicode text is read as it was sent, escaped or not."""
    assert Draft(text) == body.message(JSON, json.dumps({"msg": text}).encode())
    assert Draft(text) == body.message(
        "Application/JSON; charset=utf-8", json.dumps({"msg": text}, ensure_ascii=False).encode()
    )


@pytest.mark.parametrize(
    ("sent", "message"),
    [
        (b"", "not valid JSON"),
        (b"{", "not valid JSON"),
        (b"\xff", "not valid UTF-8"),
        (b'{"msg": "a"} x', "not valid JSON: Extra data"),
        (b'{"msg": NaN}', "NaN is not JSON"),
        (b'{"x": -Infinity, "msg": "a"}', "-Infinity is not JSON"),
        (b'{"msg": "a", "msg": "b"}', "a key is given twice"),
        (b'{"x": ' + b"9" * 5_000 + b"}", "not valid JSON"),
        (b"[" * 100_000, "not valid JSON"),
        (b'{"msg":' * 100_000, "not valid JSON"),
        (b"[]", "the body must be a JSON object, not an array"),
        (b'"msg"', "the body must be a JSON object, not a string"),
        (b"5", "the body must be a JSON object, not a number"),
        (b"{}", "No message provided"),
        (b'{"msg": ""}', "No message provided"),
        (b'{"text": "a"}', "No message provided"),
        (b'{"msg": 5}', "msg must be a JSON string, not a number"),
        (b'{"msg": true}', "msg must be a JSON string, not a boolean"),
        (b'{"msg": null}', "msg must be a JSON string, not null"),
        (b'{"msg": ["a"]}', "msg must be a JSON string, not an array"),
        (b'{"msg": "\\ud800"}', "msg is not valid Unicode text"),
    ],
)
def test_an_invalid_body_is_refused_with_one_sentence(sent: bytes, message: str) -> None:
    """The error says what is wrong, for everything that json.loads rejects and for what it accepts wrongly."""
    with pytest.raises(RequestError) as caught:
        body.message(JSON, sent)

    assert message in str(caught.value)


def test_a_text_or_body_over_its_limit_is_refused_with_both_sizes() -> None:
    """The error has the size and the limit; a text at the limit is accepted."""
    text = "é" * (MESSAGE_BYTES // 2)

    assert Draft(text) == body.message(JSON, json.dumps({"msg": text}).encode())
    with pytest.raises(TooLargeError, match="msg has 65537 bytes of UTF-8, over the limit of 65536"):
        body.message(JSON, json.dumps({"msg": text + "x"}).encode())
    with pytest.raises(TooLargeError, match="the body has 1048577 bytes, over the limit of 1048576"):
        body.message(JSON, b" " * (body.DEFAULT.body_bytes + 1))


@pytest.mark.parametrize(
    "content_type", [None, "", "text/plain", "application/x-www-form-urlencoded", "application/jsonx"]
)
def test_only_json_is_accepted(content_type: str | None) -> None:
    """A form, or a body without a media type, is refused."""
    with pytest.raises(MediaTypeError, match="Content-Type must be application/json, not"):
        body.message(content_type, b'{"msg": "a"}')


@pytest.mark.parametrize(
    ("content_type", "item", "between"), [(JSON, b"1", b","), (JSON, b"[]", b","), (body.NDJSON, b"1", b"\n")]
)
def test_a_batch_with_too_many_items_costs_little_memory(content_type: str, item: bytes, between: bytes) -> None:
    """The items are counted before they are decoded: 10 MiB of the smallest ones would take hundreds of MiB."""
    joined = between.join([item] * (body.DEFAULT.batch_bytes // 3))
    sent = joined if content_type == body.NDJSON else b"[%b]" % joined
    tracemalloc.start()
    try:
        with pytest.raises(RequestError, match="a batch has 1 to 10000 messages, not more"):
            body.messages(content_type, sent)
        _, peak_bytes = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak_bytes < 16 * 2**20


def test_only_the_items_of_a_batch_are_counted() -> None:
    """Commas and newlines inside of items, and blank lines, do not count; a batch at the limit is accepted."""
    limits = Limits(batch_messages=3)
    array = b'[{"msg": "a,b,c", "fields": {"x": 1, "y": 2}}, {"msg": "d"} , {"msg": "e"}]'
    lines = b'\n \n{"msg": "a"}\r\n\n\t{"msg": "b"}\n{"msg": "c"}\n\n'

    assert [Draft("a,b,c", '{"x":1,"y":2}'), Draft("d"), Draft("e")] == body.messages(JSON, array, limits)
    assert [Draft("a"), Draft("b"), Draft("c")] == body.messages(body.NDJSON, lines, limits)
    for empty, content_type in ((b"[]", JSON), (b" \n", body.NDJSON)):
        with pytest.raises(RequestError, match="a batch has 1 to 3 messages, not 0"):
            body.messages(content_type, empty, limits)
