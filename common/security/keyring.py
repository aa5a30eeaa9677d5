"""Who may talk to whom: the keys of all processes, as files in a folder. Pure but for reading them.

`ADDRESS.pub` (host:port, or `operator` for commands) has a public key, 40 characters of Z85: who has its other half is
that address. `ADDRESS.key` has the secret one, and is only where that process runs. A file that comes admits, and one
that goes shuts out, without a restart.
"""

import functools
import stat
import string
import time
from collections.abc import Callable, Mapping
from pathlib import Path

import structlog

from common.errors import ConfigError

log = structlog.get_logger()

OPERATOR = "operator"  # the name of commands: they ask, and nobody asks them
PUBLIC, SECRET = ".pub", ".key"
LOOK_S = 1.0  # between two looks at the folder
KEYS = 10_000  # public keys that are read; more are a mistake

CHARACTERS = 40  # of a key in Z85: 32 bytes

_Z85 = f"{string.digits}{string.ascii_lowercase}{string.ascii_uppercase}.-:+=^!/*?&<>()[]{{}}@%$#"  # its 85 digits
_Seen = tuple[tuple[str, int, int], ...]  # names, times and sizes of the files
_AWAY: _Seen = (("", 0, 0),)  # of a folder that is not there


class Keyring:
    """The keys of this process, and the public ones of all that it knows.

    Args:
        folder: where the files are.
        own: host:port at which this process serves, or OPERATOR.
        clock: the time now, in seconds from any start.

    Raises:
        ConfigError: a key of this process is missing, wrong, or may be read by others.
    """

    def __init__(self, folder: Path, own: str, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._folder = folder
        self._clock = clock
        self.own = own
        self.secret = _secret(folder / f"{own}{SECRET}")
        self._seen: _Seen = ()
        self._looked_s = clock()
        self._keys: Mapping[str, str] = {}
        self._names: Mapping[str, str] = {}
        self._look()
        if own not in self._keys:
            raise ConfigError(f"there is no valid {folder / (own + PUBLIC)}: `python -m scripts.keys make` makes it")
        self.public = self._keys[own]  # for as long as the secret one is kept, whatever becomes of the file

    def key_of(self, name: str) -> str | None:
        """The public key of an address; None for one that is not known."""
        self._refresh()
        return self._keys.get(name)

    def name_of(self, key: str | None) -> str | None:
        """Whose public key that is; None for nobody's."""
        self._refresh()
        return self._names.get(key or "")

    def knows(self, name: str) -> bool:
        """Whether there is a public key of an address."""
        return self.key_of(name) is not None

    def _refresh(self) -> None:
        if (now_s := self._clock()) - self._looked_s >= LOOK_S:
            self._looked_s = now_s
            self._look()

    def _look(self) -> None:
        """Read the public keys, if any file came, went or changed; one that cannot be read admits nobody."""
        if not self._folder.is_dir():  # a disk that is away for a moment must not end a cluster
            if self._seen != _AWAY:
                log.warning("the folder of keys is away, what was known is kept", folder=str(self._folder))
            self._seen = _AWAY
            return
        try:
            files = sorted(self._folder.glob(f"*{PUBLIC}"))[:KEYS]
        except OSError as error:  # too many files are open, for example: what was known is kept
            log.warning("the folder of keys cannot be read", folder=str(self._folder), reason=error.strerror)
            return
        seen = tuple((file.name, *_stamp(file)) for file in files)
        if seen == self._seen:
            return
        keys = {file.name.removesuffix(PUBLIC): key for file in files if (key := _public(file))}
        if self._seen:
            came, went = keys.keys() - self._keys.keys(), self._keys.keys() - keys.keys()
            log.info("keys changed", came=sorted(came), went=sorted(went))
        self._seen, self._keys, self._names = seen, keys, {key: name for name, key in keys.items()}


def _secret(file: Path) -> str:
    try:
        mode, key = file.stat().st_mode, file.read_text().strip()
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "it is not text"
        raise ConfigError(
            f"cannot read the secret key {file}: {reason}; `python -m scripts.keys make` makes it"
        ) from error
    if mode & (stat.S_IRWXG | stat.S_IRWXO):
        raise ConfigError(f"others may read the secret key {file}: chmod 600 it")
    if not _is_key(key):
        raise ConfigError(f"{file} has no secret key: it must be 40 characters of Z85")
    return key


def _stamp(file: Path) -> tuple[int, int]:
    """What changes when a file or its rights do."""
    try:
        found = file.stat()
    except OSError:
        return 0, -1
    return found.st_ctime_ns, found.st_size


def _public(file: Path) -> str | None:
    """The key in a file; None, and a warning, when there is no valid one."""
    try:
        key, reason = file.read_text(errors="replace").strip(), "it must be 40 characters of Z85"
    except OSError as error:
        key, reason = "", error.strerror or "it cannot be read"
    if _is_key(key):
        return key
    log.warning("no valid public key in a file", file=file.name, reason=reason)
    return None


def _is_key(text: str) -> bool:
    """Whether it is so many characters of Z85, of which each five are a number of 32 bits."""
    if len(text) != CHARACTERS or not set(text) <= set(_Z85):
        return False
    return all(_number(text[at : at + 5]) < 2**32 for at in range(0, CHARACTERS, 5))


def _number(digits: str) -> int:
    return functools.reduce(lambda value, digit: value * len(_Z85) + _Z85.index(digit), digits, 0)
