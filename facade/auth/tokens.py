"""The bearer tokens of clients: a file of hashes, read again when it changes."""

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

LOOK_S = 1.0  # between two looks at the file
TOKEN_BYTES = 32  # of chance in a token: so it cannot be guessed, and a fast hash is enough


class Scope(enum.StrEnum):
    """What a token allows."""

    READ = "read"  # to read messages, and to follow
    WRITE = "write"  # to store messages
    ADMIN = "admin"  # both, and how the cluster is: its status, its history and its metrics


class Token(Struct, frozen=True, forbid_unknown_fields=True):
    """A token as the file has it: a name for people, what it allows, and the hash of what a client sends."""

    name: Annotated[str, Meta(pattern="^[A-Za-z0-9._-]{1,64}$")]
    scopes: Annotated[tuple[Scope, ...], Meta(min_length=1, max_length=3)]
    sha256: Annotated[str, Meta(pattern="^[0-9a-f]{64}$")]

    def allows(self, scope: Scope) -> bool:
        """Whether it may do that."""
        return scope in self.scopes or Scope.ADMIN in self.scopes


class _File(Struct, frozen=True, forbid_unknown_fields=True):
    token: Annotated[tuple[Token, ...], Meta(max_length=10_000)] = ()


class Tokens:
    """The tokens in a file.

    Args:
        file: written by `python -m scripts.tokens`.
        clock: the time now, in seconds from any start.

    Raises:
        ConfigError: it cannot be read, or is not valid.
    """

    def __init__(self, file: Path, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._file = file
        self._clock = clock
        self._lock = threading.Lock()
        self._looked_s = clock()
        self._seen = _seen(file)
        self._known = read(file)

    def find(self, sent: str) -> Token | None:
        """Whose token was sent; None for nobody's. All are compared, each in constant time."""
        self._refresh()
        digest = digest_of(sent)
        found = None
        for token in self._known:
            if hmac.compare_digest(token.sha256, digest):
                found = token
        return found

    def _refresh(self) -> None:
        """Read the file again, if it changed; while it is not valid, what was known stays."""
        with self._lock:
            if (now_s := self._clock()) - self._looked_s < LOOK_S:
                return
            self._looked_s = now_s
            if (seen := _seen(self._file)) == self._seen:
                return
            self._seen = seen
            try:
                self._known = read(self._file)
                log.info("tokens changed", count=len(self._known))
            except ConfigError as error:
                log.error("tokens not read again, the ones before stay", reason=error)  # noqa: TRY400 (no defect)


def digest_of(token: str) -> str:
    """The hash under which the file has a token."""
    return hashlib.sha256(token.encode("utf-8", "surrogateescape")).hexdigest()


def read(file: Path) -> tuple[Token, ...]:
    """The tokens in a file; raises ConfigError."""
    try:
        known = msgspec.convert(tomli.loads(file.read_text()), _File).token
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "it is not UTF-8 text"
        raise ConfigError(f"cannot read the tokens {file}: {reason}") from error
    except (tomli.TOMLDecodeError, msgspec.ValidationError) as error:
        raise ConfigError(f"{file} is no file of tokens: {error}") from error
    if len({token.name for token in known}) < len(known):
        raise ConfigError(f"{file}: two tokens have one name")
    return known


def _seen(file: Path) -> tuple[int, int, int] | None:
    """What changes when a file does."""
    try:
        found = file.stat()
    except OSError:
        return None
    return found.st_mtime_ns, found.st_size, found.st_ino
