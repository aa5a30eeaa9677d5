"""Tests of nodes.hazelcast.text: bytes and hash are equal to those of the client."""

import pytest
from hazelcast.config import Config
from hazelcast.serialization.service import SerializationServiceV1
from hypothesis import given
from hypothesis import strategies as st

from nodes.hazelcast.text import Text

CLIENT = SerializationServiceV1(Config())


@pytest.mark.parametrize("text", ["", "a", "ab", "abc", "abcd", "é\U0001f600\x00", "x" * 65_536])
def test_text_is_serialized_as_by_the_client(text: str) -> None:
    """Texts of lengths around a block of the hash, and the longest text, have equal bytes and hash."""
    made, expected = Text(text), CLIENT.to_data(text)
    assert made.buffer == bytes(expected.buffer)
    assert made.get_partition_hash() == expected.get_partition_hash()


@given(st.text(st.characters(codec="utf-8")))
def test_any_text_is_serialized_as_by_the_client(text: str) -> None:
    """Equal bytes and hash mean that other clients find the key in its partition."""
    made, expected = Text(text), CLIENT.to_data(text)
    assert (made.buffer, made.get_partition_hash()) == (bytes(expected.buffer), expected.get_partition_hash())
    assert str(made) == text


class Partitioned(str):
    """A key with a partition key, as other clients define one."""

    __slots__ = ()

    def get_partition_key(self) -> str:
        """The partition key; the client calls this method."""
        return self[:3]


@given(st.text(st.characters(codec="utf-8"), min_size=3))
def test_a_key_goes_to_the_partition_of_its_partition_key(text: str) -> None:
    """Bytes and hash are equal to those of the client."""
    made, expected = Text(text, text[:3]), CLIENT.to_data(Partitioned(text))
    assert (made.buffer, made.get_partition_hash()) == (bytes(expected.buffer), expected.get_partition_hash())
    assert str(made) == text


def test_equal_texts_are_one_key() -> None:
    """Equal texts are one key of the dictionary that is passed to the client."""
    assert {Text("a"): 1, Text("a"): 2, Text("b"): 3} == {Text("b"): 3, Text("a"): 2}
    assert Text("a") != "a"
