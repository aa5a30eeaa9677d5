"""The bearer tokens of clients: a file of their hashes, which is read again when it changes."""

import enum
import hashlib
import hmac
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Annotated

import msgspec
import structlog
import tomli
from msgspec import Meta, Struct

from common.errors import ConfigError

log = structlog.get_logger()

CHECK_INTERVAL_S = 1.0  # between two checks whether the file has changed
TOKEN_BYTES = 32  # of randomness in a token: it cannot be guessed, so a fast hash is enough


class Scope(enum.StrEnum):
    """What a token allows."""

    READ = "read"  # read and follow messages
    WRITE = "write"  # store messages
    ADMIN = "admin"  # both of them, and read the status, history and metrics of the cluster


class Token(Struct, frozen=True, forbid_unknown_fields=True):
    """A token in the file: a name for people, its scopes, and the SHA-256 hash of what a client sends."""

    name: Annotated[str, Meta(pattern="^[A-Za-z0-9._-]{1,64}$")]
    scopes: Annotated[tuple[Scope, ...], Meta(min_length=1, max_length=3)]
    sha256: Annotated[str, Meta(pattern="^[0-9a-f]{64}$")]

    def allows(self, scope: Scope) -> bool:
        """True if the token has the scope."""
        return scope in self.scopes or Scope.ADMIN in self.scopes


class _File(Struct, frozen=True, forbid_unknown_fields=True):
    token: Annotated[tuple[Token, ...], Meta(max_length=10_000)] = ()


class Tokens:
    """The tokens in a file.

    Args:
        file: the file, written by `python -m scripts.tokens`.
        clock: seconds from any start.

    Raises:
        ConfigError: the file cannot be read, or is not valid.
    """

    def __init__(self, file: Path, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._file = file
        self._clock = clock
        self._lock = threading.Lock()
        self._checked_s = clock()
        self._version = _version(file)
        self._tokens = read(file)

    def find(self, sent: str) -> Token | None:
        """The token that a client sent; None if it is unknown. Compares with all tokens, each in constant time."""
        self._reload_if_changed()
        digest = digest_of(sent)
        found = None
        for token in self._tokens:
            if hmac.compare_digest(token.sha256, digest):
                found = token
        return found

    def _reload_if_changed(self) -> None:
        """Read the file again if it has changed; if it is not valid, keep the previous tokens."""
        with self._lock:
            if (now_s := self._clock()) - self._checked_s < CHECK_INTERVAL_S:
                return
            self._checked_s = now_s
            if (version := _version(self._file)) == self._version:
                return
            self._version = version
            try:
                self._tokens = read(self._file)
                log.info("tokens changed", count=len(self._tokens))
            except ConfigError as error:
                log.error("tokens not reloaded, the previous ones stay in use", reason=error)  # noqa: TRY400 (no defect)


def digest_of(token: str) -> str:
    """The hash of a token, as it is in the file."""
    return hashlib.sha256(token.encode("utf-8", "surrogateescape")).hexdigest()


def read(file: Path) -> tuple[Token, ...]:
    """The tokens in a file; raises ConfigError."""
    try:
        tokens = msgspec.convert(tomli.loads(file.read_text()), _File).token
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "it is not UTF-8 text"
        raise ConfigError(f"cannot read the tokens {file}: {reason}") from error
    except (tomli.TOMLDecodeError, msgspec.ValidationError) as error:
        raise ConfigError(f"{file} is no file of tokens: {error}") from error
    if len({token.name for token in tokens}) < len(tokens):
        raise ConfigError(f"{file}: two tokens have one name")
    return tokens


def _version(file: Path) -> tuple[int, int, int] | None:
    """Values that differ when the file has changed: time, size and inode; None if there is no file."""
    try:
        status = file.stat()
    except OSError:
        return None
    return status.st_mtime_ns, status.st_size, status.st_ino
