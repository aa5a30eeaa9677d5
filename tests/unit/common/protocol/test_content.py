"""Tests of common.protocol.content."""

import pytest

from common.errors import InvalidMessageError
from common.protocol.content import Entry, content_bytes, text_bytes


@pytest.mark.parametrize(("entry", "expected"), [(Entry("i", "é"), 2), (Entry("i", "é", '{"a":"é"}'), 12)])
def test_a_message_is_as_long_as_its_text_and_its_fields(entry: Entry, expected: int) -> None:
    """In bytes of UTF-8, because frames and pages are limited in bytes."""
    assert expected == content_bytes(entry)


def test_half_a_character_has_no_length() -> None:
    """UTF-8 cannot carry a lone surrogate; the error says where it is."""
    with pytest.raises(InvalidMessageError, match="msg is not valid Unicode text: surrogates not allowed at 1"):
        text_bytes("a\ud800")
