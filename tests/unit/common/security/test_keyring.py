"""Tests of common.security.keyring: the files of keys, and the names that belong to them."""

from pathlib import Path

import pytest
from structlog.typing import EventDict

from common.errors import ConfigError
from common.security.keyring import Keyring
from scripts import keys
from tests.support.waiting import ManualClock

OWN, PEER = "127.0.0.1:5002", "127.0.0.1:5003"
RELOAD_S = 1.0  # within which a changed file counts


@pytest.fixture
def clock() -> ManualClock:
    """The clock of `ring`."""
    return ManualClock()


@pytest.fixture
def ring(tmp_path: Path, clock: ManualClock) -> Keyring:
    """The keyring of OWN, which has the key of PEER."""
    for name in (OWN, PEER):
        keys.write_pair(tmp_path, name)
    return Keyring(tmp_path, OWN, clock=clock)


def test_each_key_belongs_to_an_address(ring: Keyring) -> None:
    """A key has a name, which is an address, and an address has a key."""
    key = ring.key_of(PEER)

    assert PEER == ring.name_of(key)
    assert OWN == ring.name_of(ring.public)
    assert (None, None) == (ring.key_of("127.0.0.1:5004"), ring.name_of("nobody's"))
    assert (True, False) == (ring.has_key_of(PEER), ring.has_key_of("127.0.0.1:5004"))


def test_changed_files_are_noticed_within_a_second(
    tmp_path: Path, ring: Keyring, clock: ManualClock, logged: list[EventDict]
) -> None:
    """A new file admits its owner, a removed one excludes it, and a replaced one does both."""
    key = ring.key_of(PEER)
    keys.write_pair(tmp_path, "127.0.0.1:5004")
    assert not ring.has_key_of("127.0.0.1:5004")  # the files were read just before

    clock.now_s += RELOAD_S
    assert ring.has_key_of("127.0.0.1:5004")

    keys.write_pair(tmp_path, PEER, replace=True)
    clock.now_s += RELOAD_S
    assert (None, PEER) == (ring.name_of(key), ring.name_of(ring.key_of(PEER)))

    (tmp_path / f"{PEER}.pub").unlink()
    clock.now_s += RELOAD_S
    assert not ring.has_key_of(PEER)
    assert ["keys changed"] * 3 == [line["event"] for line in logged]


def test_an_invalid_file_is_ignored(tmp_path: Path, ring: Keyring, clock: ManualClock, logged: list[EventDict]) -> None:
    """It is logged once, and the other keys stay valid."""
    (tmp_path / "127.0.0.1:5009.pub").write_bytes(b"\xff not a key")
    clock.now_s += RELOAD_S
    assert not ring.has_key_of("127.0.0.1:5009")
    clock.now_s += RELOAD_S

    assert ring.has_key_of(PEER)
    assert ["127.0.0.1:5009.pub"] == [line["file"] for line in logged if "no valid" in line["event"]]


def test_the_keys_stay_valid_while_the_folder_is_missing(tmp_path: Path, ring: Keyring, clock: ManualClock) -> None:
    """A disk that is unavailable for a moment must not end a cluster."""
    away = tmp_path.rename(tmp_path.parent / "away")
    clock.now_s += RELOAD_S
    assert ring.has_key_of(PEER)

    away.rename(tmp_path)
    tmp_path.joinpath(f"{PEER}.pub").unlink()
    clock.now_s += RELOAD_S
    assert not ring.has_key_of(PEER)


def test_a_file_that_cannot_be_read_does_not_keep_removed_keys_valid(
    tmp_path: Path, ring: Keyring, clock: ManualClock
) -> None:
    """A removed key is excluded although another file is broken; that one is valid when it can be read."""
    key = tmp_path.joinpath(f"{PEER}.pub").read_text()
    tmp_path.joinpath(f"{PEER}.pub").unlink()
    other = tmp_path.joinpath("127.0.0.1:9.pub")
    other.symlink_to(tmp_path / "nowhere")  # also root cannot read it
    clock.now_s += RELOAD_S
    assert (False, False, True) == (ring.has_key_of(PEER), ring.has_key_of("127.0.0.1:9"), ring.has_key_of(OWN))

    tmp_path.joinpath("nowhere").write_text(key)
    clock.now_s += RELOAD_S
    assert ring.has_key_of("127.0.0.1:9")


def test_a_process_keeps_its_own_public_key(tmp_path: Path, ring: Keyring, clock: ManualClock) -> None:
    """A process whose own file is removed can still call others until it stops."""
    before = ring.public
    tmp_path.joinpath(f"{OWN}.pub").unlink()
    clock.now_s += RELOAD_S
    assert (False, before) == (ring.has_key_of(OWN), ring.public)


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda folder: (folder / f"{OWN}.key").unlink(), "No such file"),
        (lambda folder: (folder / f"{OWN}.key").chmod(0o644), "chmod 600"),
        (lambda folder: (folder / f"{OWN}.key").write_text("short\n"), "40 characters of Z85"),
        (lambda folder: (folder / f"{OWN}.key").write_bytes(b"\xff"), "not text"),
        (lambda folder: (folder / f"{OWN}.pub").unlink(), "there is no valid"),
    ],
)
def test_a_process_without_valid_keys_does_not_start(tmp_path: Path, spoil: object, message: str) -> None:
    """The error names the file and the remedy."""
    keys.write_pair(tmp_path, OWN)
    assert callable(spoil)
    spoil(tmp_path)

    with pytest.raises(ConfigError, match=message):
        Keyring(tmp_path, OWN)


def test_a_number_that_is_too_large_is_no_key(tmp_path: Path, ring: Keyring, clock: ManualClock) -> None:
    """Five characters of a key are 32 bits: libzmq would refuse larger numbers when the key is used."""
    (tmp_path / f"{PEER}.pub").write_text("%nSc1" * 8)
    clock.now_s += RELOAD_S
    assert not ring.has_key_of(PEER)
    (tmp_path / f"{PEER}.pub").write_text("%nSc0" * 8)
    clock.now_s += RELOAD_S
    assert ring.has_key_of(PEER)
