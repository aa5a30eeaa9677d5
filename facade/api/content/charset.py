"""Character sets of request bodies: converts what Python knows to text. No I/O."""

import codecs
import contextlib
import encodings
import pkgutil
import re
from encodings import aliases

import falcon

from common.errors import MediaTypeError, RequestError

# Codecs of Python that are no character sets: escapes of its own source, names of domains, and one that only fails.
_NO_CHARSETS = ("idna", "punycode", "raw-unicode-escape", "undefined", "unicode-escape")
_UTF_8 = "utf-8"
_ALIASES = {*aliases.aliases, *(module.name for module in pkgutil.iter_modules(encodings.__path__))} - {"aliases"}
NAME_CHARACTERS = 40  # limit on the name of a character set; the longest of Python's has 25
_BYTE_ORDER_MARK = "\ufeff"


def type_and_charset(content_type: str | None) -> tuple[str, str]:
    """The media type in lower case, and the character set; "" for each that is missing."""
    media_type, parameters = falcon.parse_header(content_type or "")
    return media_type.strip().lower(), parameters.get("charset", "").strip()


def text_of(body: bytes, charset: str = "") -> str:
    """The text of a body, without a byte order mark before it.

    Args:
        body: the body.
        charset: the name of its character set; "" for UTF-8.

    Raises:
        MediaTypeError: the character set is unknown.
        RequestError: the body is not valid in it.
    """
    codec = codec_of(charset)
    try:
        return body.decode(codec).removeprefix(_BYTE_ORDER_MARK)
    except UnicodeDecodeError as error:
        raise RequestError(f"the body is not valid {codec.upper()}: {error.reason} at {error.start}") from error


def utf_8(body: bytes, charset: str = "") -> bytes:
    """A body in UTF-8 without a byte order mark; a body in UTF-8 is not decoded. Raises as `text_of`."""
    if codec_of(charset) == _UTF_8:
        return body.removeprefix(codecs.BOM_UTF8)
    return text_of(body, charset).encode("utf-8", "surrogatepass")


def codec_of(charset: str) -> str:
    """The name of Python's codec for a character set, "utf-8" for ""; raises MediaTypeError if there is none."""
    if not charset:
        return _UTF_8
    alias = re.sub("[^a-z0-9]+", "_", charset.lower()[:NAME_CHARACTERS])
    codec = ""
    if alias in _ALIASES:  # Python would remember every other name for ever
        with contextlib.suppress(LookupError):
            with contextlib.suppress(UnicodeError):
                b"x".decode(alias)  # a LookupError for a codec that does not make text
            codec = codecs.lookup(alias).name
    if not codec or codec in _NO_CHARSETS:
        raise MediaTypeError(f"the charset {charset[:40]!r} of Content-Type is not known; send UTF-8")
    return codec
