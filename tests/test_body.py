"""Tests of facade.body."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from common.errors import MediaTypeError, RequestError, TooLargeError
from common.wire import MESSAGE_BYTES
from facade import body

JSON = "application/json"


@given(st.text(st.characters(exclude_categories=["Cs"]), min_size=1))
def test_any_text_is_taken_as_it_is(text: str) -> None:
    """Whatever Unicode text is sent is what is stored, escaped or not."""
    assert text == body.message(JSON, json.dumps({"msg": text}).encode())
    assert text == body.message(
        "Application/JSON; charset=utf-8", json.dumps({"msg": text}, ensure_ascii=False).encode()
    )


@pytest.mark.parametrize(
    ("sent", "told"),
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
def test_a_wrong_body_is_one_clear_sentence(sent: bytes, told: str) -> None:
    """The error says what is wrong, for everything that json.loads rejects and for what it lets pass."""
    with pytest.raises(RequestError) as caught:
        body.message(JSON, sent)

    assert told in str(caught.value)


def test_limits_are_named() -> None:
    """A text or a body over its limit is refused with both figures; one at the limit is taken."""
    text = "é" * (MESSAGE_BYTES // 2)

    assert text == body.message(JSON, json.dumps({"msg": text}).encode())
    with pytest.raises(TooLargeError, match="msg has 65537 bytes of UTF-8, over the limit of 65536"):
        body.message(JSON, json.dumps({"msg": text + "x"}).encode())
    with pytest.raises(TooLargeError, match="the body has 1048577 bytes, over the limit of 1048576"):
        body.message(JSON, b" " * (body.DEFAULT.body_bytes + 1))


@pytest.mark.parametrize(
    "content_type", [None, "", "text/plain", "application/x-www-form-urlencoded", "application/jsonx"]
)
def test_only_json_is_taken(content_type: str | None) -> None:
    """A form, or a body of no announced type, is refused."""
    with pytest.raises(MediaTypeError, match="Content-Type must be application/json, not"):
        body.message(content_type, b'{"msg": "a"}')
