"""The CURVE keys of all processes, as files in one folder. The only I/O is reading these files.

`ADDRESS.pub` (host:port, or `operator` for commands) holds a public key, 40 characters of Z85; the process with the
matching secret key is authenticated as that address. `ADDRESS.key` holds the secret key, and exists only on the host of
that process. Adding or removing a `.pub` file grants or revokes access without a restart.
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

OPERATOR = "operator"  # the key name of commands, which are clients only and have no address
PUBLIC, SECRET = ".pub", ".key"
CHECK_INTERVAL_S = 1.0  # interval between two checks of the folder
MAX_KEYS = 10_000  # public keys that are read, to bound the memory if the folder is the wrong one

KEY_CHARACTERS = 40  # length of a key in Z85, for 32 bytes

_Z85 = f"{string.digits}{string.ascii_lowercase}{string.ascii_uppercase}.-:+=^!/*?&<>()[]{{}}@%$#"  # its 85 digits
_Stamps = tuple[tuple[str, int, int], ...]  # the name, change time and size of each file
_MISSING_FOLDER: _Stamps = (("", 0, 0),)


class Keyring:
    """The keys of this process, and the public keys of all processes.

    Args:
        folder: the folder with the key files.
        own: host:port at which this process serves, or OPERATOR.
        clock: the current time in seconds, from any start.

    Raises:
        ConfigError: a key of this process is missing or invalid, or other users may read its secret key.
    """

    def __init__(self, folder: Path, own: str, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._folder = folder
        self._clock = clock
        self.own = own
        self.secret = _secret(folder / f"{own}{SECRET}")
        self._stamps: _Stamps = ()
        self._checked_s = clock()
        self._keys: Mapping[str, str] = {}
        self._names: Mapping[str, str] = {}
        self._read_folder()
        if own not in self._keys:
            raise ConfigError(f"there is no valid {folder / (own + PUBLIC)}: `python -m scripts.keys make` makes it")
        self.public = self._keys[own]  # fixed, because the secret key is also read only once

    def key_of(self, name: str) -> str | None:
        """The public key of an address; None if there is none."""
        self._reload_if_changed()
        return self._keys.get(name)

    def name_of(self, key: str | None) -> str | None:
        """The address or command to which a public key belongs; None for an unknown key."""
        self._reload_if_changed()
        return self._names.get(key or "")

    def has_key_of(self, name: str) -> bool:
        """True if there is a public key for the address."""
        return self.key_of(name) is not None

    def _reload_if_changed(self) -> None:
        if (now_s := self._clock()) - self._checked_s >= CHECK_INTERVAL_S:
            self._checked_s = now_s
            self._read_folder()

    def _read_folder(self) -> None:
        """Read all public keys if any file was added, removed or changed; skip files without a valid key."""
        if not self._folder.is_dir():  # a disk that is unmounted for a moment must not stop the cluster
            if self._stamps != _MISSING_FOLDER:
                log.warning("the folder of keys is missing, the last keys stay valid", folder=str(self._folder))
            self._stamps = _MISSING_FOLDER
            return
        try:
            files = sorted(self._folder.glob(f"*{PUBLIC}"))[:MAX_KEYS]
        except OSError as error:  # such as too many open files: keep the last keys
            log.warning("the folder of keys cannot be read", folder=str(self._folder), reason=error.strerror)
            return
        stamps = tuple((file.name, *_stamp(file)) for file in files)
        if stamps == self._stamps:
            return
        keys = {file.name.removesuffix(PUBLIC): key for file in files if (key := _public(file))}
        if self._stamps:
            added, removed = keys.keys() - self._keys.keys(), self._keys.keys() - keys.keys()
            log.info("keys changed", added=sorted(added), removed=sorted(removed))
        self._stamps, self._keys, self._names = stamps, keys, {key: name for name, key in keys.items()}


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
    """The change time and size of a file, which show a change of its content or permissions."""
    try:
        found = file.stat()
    except OSError:
        return 0, -1
    return found.st_ctime_ns, found.st_size


def _public(file: Path) -> str | None:
    """The public key in a file; logs a warning and returns None if it is not valid."""
    try:
        key, reason = file.read_text(errors="replace").strip(), "it must be 40 characters of Z85"
    except OSError as error:
        key, reason = "", error.strerror or "it cannot be read"
    if _is_key(key):
        return key
    log.warning("no valid public key in a file", file=file.name, reason=reason)
    return None


def _is_key(text: str) -> bool:
    """True if a text is 40 characters of Z85, and each group of five encodes a number of at most 32 bits."""
    if len(text) != KEY_CHARACTERS or not set(text) <= set(_Z85):
        return False
    return all(_number(text[at : at + 5]) < 2**32 for at in range(0, KEY_CHARACTERS, 5))


def _number(digits: str) -> int:
    return functools.reduce(lambda value, digit: value * len(_Z85) + _Z85.index(digit), digits, 0)
