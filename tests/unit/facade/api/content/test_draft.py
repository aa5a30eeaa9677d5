"""Tests of facade.api.content.draft."""

import json
from typing import Any

import pytest

from common.config import Limits
from common.errors import RequestError, TooLargeError
from facade.api.content.draft import Draft, RecordShape, draft_of, draft_of_record

LIMITS = Limits(fields=3, fields_bytes=40)
SHAPE = RecordShape("log", "ts")


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ({"msg": "a"}, Draft("a")),
        ({"msg": "a", "fields": {}}, Draft("a")),
        ({"msg": "a", "fields": None}, Draft("a")),
        ({"msg": "a", "fields": {"é": "x", "n": 5, "on": True}}, Draft("a", '{"é":"x","n":5,"on":true}')),
        ({"msg": "a", "key": "order-7"}, Draft("a", key="order-7")),
    ],
)
def test_a_message_may_have_fields_and_a_key(value: object, expected: Draft) -> None:
    """Fields are kept in their order, as compact JSON."""
    assert expected == draft_of(value, LIMITS)


@pytest.mark.parametrize(
    ("more", "reason"),
    [
        ({"level": "error"}, "a message has no member 'level', only msg, fields, key; put other values into fields"),
        ({"fields": []}, "fields must be a JSON object, not an array"),
        ({"fields": {"a": None}}, "the field 'a' must be text, a number or a boolean, not null"),
        ({"fields": {"a": {"b": 1}}}, "the field 'a' must be text, a number or a boolean, not an object"),
        ({"fields": {"a": 1e999}}, "the field 'a' is not a finite number"),
        ({"fields": {"": 1}}, "the name of a field has 1 to 128 characters, not 0"),
        ({"fields": {"x" * 129: 1}}, "the name of a field has 1 to 128 characters, not 129"),
        ({"fields": {"a": "\ud800"}}, "not valid Unicode text"),
        ({"key": 5}, "key must be a JSON string, not a number"),
        ({"key": ""}, "key must be 1 to 255 visible ASCII characters"),
        ({"key": "two words"}, "key must be 1 to 255 visible ASCII characters"),
    ],
)
def test_a_wrong_part_is_named(more: dict[str, Any], reason: str) -> None:
    """Nothing that a client sends is dropped in silence."""
    with pytest.raises(RequestError, match=reason):
        draft_of({"msg": "a", **more}, LIMITS)


def test_fields_over_a_limit_are_refused_with_both_sizes() -> None:
    """In number, and in bytes of JSON."""
    with pytest.raises(TooLargeError, match="fields has 4 members, over the limit of 3"):
        draft_of({"msg": "a", "fields": {"a": 1, "b": 1, "c": 1, "d": 1}}, LIMITS)
    with pytest.raises(TooLargeError, match="fields has 41 bytes of JSON, over the limit of 40"):
        draft_of({"msg": "a", "fields": {"a": "é" * 16 + "x"}}, LIMITS)
    assert 40 == len(draft_of({"msg": "a", "fields": {"a": "é" * 16}}, LIMITS).fields.encode())


def test_the_first_interface_ignores_all_but_the_text() -> None:
    """As its first version did."""
    assert Draft("a") == draft_of({"msg": "a", "fields": {"b": 1}, "key": 5, "x": None}, LIMITS, strict=False)


def test_a_record_of_a_shipper_becomes_a_message() -> None:
    """One member is its text, one its time, and all others are fields; what is nested gets a dotted name."""
    record = {"log": "a", "ts": 1_795_507_200, "k": {"pod": "p", "n": {"x": 1}}, "tags": ["a", 1], "none": None}

    assert Draft("a", '{"k.pod":"p","k.n.x":1,"tags":"[\\"a\\",1]"}', "", 1_795_507_200_000_000_000) == draft_of_record(
        record, SHAPE, Limits()
    )


@pytest.mark.parametrize("text", [{"a": 1}, 5, True])
def test_a_text_that_is_no_text_is_kept_as_json(text: object) -> None:
    """Some programs log objects."""
    assert Draft(json.dumps(text, separators=(",", ":"))) == draft_of_record({"log": text}, SHAPE, Limits())


@pytest.mark.parametrize(
    ("record", "reason"),
    [
        ({}, "the record has no member 'log', which msg_field names"),
        ([], "the body must be a JSON object, not an array"),
        ({"log": ""}, "No message provided"),
        ({"log": "a", "ts": "now"}, "ts must be a time as RFC 3339 has it"),
        ({"log": "a", "x": {"y" * 200: 1}}, "the name of a field has over 128 characters: x"),
        ({"log": None}, "log is null, but it must have the text of the message"),
        ({"log": "a", "b.c": 1, "b": {"c": 2}}, "two members of the record are called 'b.c'"),
        ({"log": "a", "b": {str(n): 1 for n in range(40)}}, "the record has over 32 fields, which is the limit"),
        ({"log": "a", "b": [1e999]}, "a number is too large"),
        ({"log": "a", "x" * 40_000: {str(n): 1 for n in range(20_000)}}, "has over 128 characters"),
    ],
)
def test_a_record_that_is_no_message_is_refused(record: object, reason: str) -> None:
    """The error names the member."""
    with pytest.raises(RequestError, match=reason):
        draft_of_record(record, SHAPE, Limits())
