"""Tests of facade.api.schema: the JSON of the types, and what the types accept."""

import msgspec
import pytest

from common import ids
from common.config import Limits
from facade.api.schema import BatchResult, Id, MessageBody, NewMessage, StoredMessage

ID = "01a20c21-40b9-743e-8cff-65c316df4a96"


def test_fields_that_do_not_apply_are_left_out() -> None:
    """A stored message of a batch has no error, a failed one has no id, and only streams name the node."""
    stored, failed = BatchResult(id=ID, time="2026-11-24T08:00:00.000Z"), BatchResult(index=0, message="No message")
    read = MessageBody(id=ID, time="2026-11-24T08:00:00.000Z", msg="hi")

    assert {"id", "time"} == {*msgspec.to_builtins(stored)}
    assert {"index": 0, "message": "No message"} == msgspec.to_builtins(failed)
    assert {"id", "time", "msg"} == {*msgspec.to_builtins(read)}


def test_an_id_has_one_form() -> None:
    """The ids that a facade makes fit the pattern; other text, and text around an id, does not."""
    assert [ID, new := ids.new_id()] == [msgspec.convert(one, Id) for one in (ID, new)]
    for wrong in ("", "x", ID.upper(), ID.replace("-", ""), f" {ID}", f"{ID}x"):
        with pytest.raises(msgspec.ValidationError):
            msgspec.convert({"id": wrong, "time": ""}, StoredMessage)


def test_a_new_message_is_neither_empty_nor_over_the_default_limit() -> None:
    """The type counts characters, which are at most the bytes that a facade counts."""
    longest = "x" * Limits().message_bytes

    assert NewMessage(longest) == msgspec.convert({"msg": longest}, NewMessage)
    for wrong in ("", f"{longest}x", 5, None):
        with pytest.raises(msgspec.ValidationError):
            msgspec.convert({"msg": wrong}, NewMessage)
