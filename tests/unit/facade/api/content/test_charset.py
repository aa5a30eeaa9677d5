"""Tests of facade.api.content.charset: bodies in other character sets."""

import encodings
import json

import pytest
from falcon import testing

from common.errors import MediaTypeError, RequestError
from facade.api.content import charset


@pytest.mark.parametrize(
    ("content_type", "expected"),
    [
        (None, ("", "")),
        ("text/plain", ("text/plain", "")),
        ("Text/Plain; Charset=UTF-16LE", ("text/plain", "UTF-16LE")),
        ('application/json; charset="iso-8859-1"', ("application/json", "iso-8859-1")),
        ("text/plain; format=flowed; charset=koi8-r", ("text/plain", "koi8-r")),
    ],
)
def test_a_content_type_is_a_media_type_and_a_charset(content_type: str | None, expected: tuple[str, str]) -> None:
    """Names are compared without regard to case, and a value may be quoted."""
    assert expected == charset.type_and_charset(content_type)


@pytest.mark.parametrize(
    "name", ["", "utf-8", "UTF8", "utf-16", "utf-16le", "utf-16be", "utf-32", "iso-8859-1", "cp1252"]
)
@pytest.mark.parametrize("mark", ["", "\ufeff"])
def test_text_is_converted_without_its_byte_order_mark(name: str, mark: str) -> None:
    """A mark at the begin says only how the text is encoded."""
    mark = mark if name.lower().startswith("utf") or not name else ""
    sent = f"{mark}é".encode(name or "utf-8")

    assert "é" == charset.text_of(sent, name)
    assert "é".encode() == charset.utf_8(sent, name)


@pytest.mark.parametrize(
    "name", ["utf-99", "x\0y", "hex", "rot13", "zlib", "idna", "punycode", "unicode_escape", "undefined"]
)
def test_other_names_are_refused(name: str) -> None:
    """What Python does not know is refused, and so are its codecs that are no character sets."""
    with pytest.raises(MediaTypeError, match="of Content-Type is not known; send UTF-8"):
        charset.text_of(b"x", name)


def test_a_body_that_is_not_valid_in_its_charset_is_refused() -> None:
    """The error names the charset and the place."""
    with pytest.raises(RequestError, match="the body is not valid UTF-8: invalid start byte at 1"):
        charset.text_of(b"a\xff")
    with pytest.raises(RequestError, match="the body is not valid UTF-16-LE: truncated data at 2"):
        charset.text_of(b"a\0b", "utf-16le")


@pytest.mark.parametrize(
    ("content_type", "body"),
    [
        ("text/plain; charset=utf-16le", "é\n".encode("utf-16le")),
        ("text/plain; charset=iso-8859-1", "é".encode("latin-1")),
        ("text/plain", b"\xef\xbb\xbf" + "é".encode()),
        ("application/json", b"\xef\xbb\xbf" + json.dumps({"msg": "é"}).encode()),
        ("application/json; charset=utf-16", json.dumps({"msg": "é"}, ensure_ascii=False).encode("utf-16")),
        ("application/x-ndjson", b"\xef\xbb\xbf" + json.dumps({"msg": "é"}).encode()),
        ("application/x-ndjson; charset=windows-1252", '{"msg":"é"}\n'.encode("cp1252")),
    ],
)
def test_the_text_is_stored_as_it_was_meant(http: testing.TestClient, content_type: str, body: bytes) -> None:
    """Whatever the encoding of the body, the stored text is the same."""
    posted = http.simulate_post("/v1/messages", body=body, headers={"Content-Type": content_type})

    assert posted.status_code in (200, 201)
    assert ["é"] == http.simulate_get("/facade").json["logs"]


def test_an_unknown_charset_is_415(http: testing.TestClient) -> None:
    """Nothing is stored as garbage."""
    posted = http.simulate_post("/v1/messages", body=b"x", headers={"Content-Type": "text/plain; charset=klingon"})

    assert 415 == posted.status_code
    assert "charset 'klingon'" in posted.json["detail"]


@pytest.mark.parametrize("name", ["utf-8-sig", "koi8-u", "cp874", "Shift_JIS", "ISO_8859-1:1987", "gb18030"])
def test_names_that_the_field_uses_are_known(name: str) -> None:
    """With hyphens, underscores or colons, in any case."""
    assert charset.codec_of(name)


def test_unknown_names_take_no_memory() -> None:
    """Python would remember each name for ever, and a client may send another one with each request."""
    before = len(encodings._cache)
    for number in range(50):
        with pytest.raises(MediaTypeError):
            charset.codec_of(f"charset-{number}")

    assert before == len(encodings._cache)
