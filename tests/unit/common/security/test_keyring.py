"""Tests of common.keyring and of scripts.keys: files in, names and keys out."""

import os
from pathlib import Path

import pytest
from click.testing import CliRunner
from structlog.typing import EventDict

from common import config, process
from common.errors import ConfigError, FatalError
from common.security.keyring import CHECK_INTERVAL_S, OPERATOR, Keyring
from scripts import keys
from scripts.launcher.ports import write_config

HERE, THERE = "127.0.0.1:5002", "127.0.0.1:5003"


class Clock:
    """A time that a test moves."""

    def __init__(self) -> None:
        self.now_s = 0.0

    def __call__(self) -> float:
        """Now."""
        return self.now_s


@pytest.fixture
def clock() -> Clock:
    """The clock of `ring`."""
    return Clock()


@pytest.fixture
def ring(tmp_path: Path, clock: Clock) -> Keyring:
    """The keyring of HERE, which knows THERE."""
    for name in (HERE, THERE):
        keys.write_pair(tmp_path, name)
    return Keyring(tmp_path, HERE, clock=clock)


def test_keys_have_names(ring: Keyring) -> None:
    """A key belongs to an address, and an address to a key."""
    key = ring.key_of(THERE)

    assert THERE == ring.name_of(key)
    assert HERE == ring.name_of(ring.public)
    assert (None, None) == (ring.key_of("127.0.0.1:5004"), ring.name_of("nobody's"))
    assert (True, False) == (ring.has_key_of(THERE), ring.has_key_of("127.0.0.1:5004"))


def test_a_key_that_comes_or_goes_is_noticed(
    tmp_path: Path, ring: Keyring, clock: Clock, logged: list[EventDict]
) -> None:
    """Within a second a new file admits, one that is removed shuts out, and one that is replaced does both."""
    key = ring.key_of(THERE)
    keys.write_pair(tmp_path, "127.0.0.1:5004")
    assert not ring.has_key_of("127.0.0.1:5004")  # it has just looked

    clock.now_s += CHECK_INTERVAL_S
    assert ring.has_key_of("127.0.0.1:5004")

    keys.write_pair(tmp_path, THERE, replace=True)
    clock.now_s += CHECK_INTERVAL_S
    assert (None, THERE) == (ring.name_of(key), ring.name_of(ring.key_of(THERE)))

    (tmp_path / f"{THERE}.pub").unlink()
    clock.now_s += CHECK_INTERVAL_S
    assert not ring.has_key_of(THERE)
    assert ["keys changed"] * 3 == [line["event"] for line in logged]


def test_a_file_that_is_no_key_admits_nobody(
    tmp_path: Path, ring: Keyring, clock: Clock, logged: list[EventDict]
) -> None:
    """It is told once; the others go on."""
    (tmp_path / "127.0.0.1:5009.pub").write_bytes(b"\xff not a key")
    clock.now_s += CHECK_INTERVAL_S
    assert not ring.has_key_of("127.0.0.1:5009")
    clock.now_s += CHECK_INTERVAL_S

    assert ring.has_key_of(THERE)
    assert ["127.0.0.1:5009.pub"] == [line["file"] for line in logged if "no valid" in line["event"]]


def test_a_folder_that_vanishes_changes_nothing(tmp_path: Path, ring: Keyring, clock: Clock) -> None:
    """What was known stays known: a disk that is away for a moment must not end a cluster."""
    away = tmp_path.rename(tmp_path.parent / "away")
    clock.now_s += CHECK_INTERVAL_S
    assert ring.has_key_of(THERE)

    away.rename(tmp_path)
    tmp_path.joinpath(f"{THERE}.pub").unlink()
    clock.now_s += CHECK_INTERVAL_S
    assert not ring.has_key_of(THERE)


def test_a_file_that_cannot_be_read_keeps_nobody_in(tmp_path: Path, ring: Keyring, clock: Clock) -> None:
    """One that was removed is shut out although another file is broken; that one admits nobody, and comes back."""
    key = tmp_path.joinpath(f"{THERE}.pub").read_text()
    tmp_path.joinpath(f"{THERE}.pub").unlink()
    other = tmp_path.joinpath("127.0.0.1:9.pub")
    other.symlink_to(tmp_path / "nowhere")  # also root cannot read it
    clock.now_s += CHECK_INTERVAL_S
    assert (False, False, True) == (ring.has_key_of(THERE), ring.has_key_of("127.0.0.1:9"), ring.has_key_of(HERE))

    tmp_path.joinpath("nowhere").write_text(key)
    clock.now_s += CHECK_INTERVAL_S
    assert ring.has_key_of("127.0.0.1:9")


def test_the_own_public_key_stays_that_of_the_secret_one(tmp_path: Path, ring: Keyring, clock: Clock) -> None:
    """A process whose own file goes can still call others until it is stopped."""
    before = ring.public
    tmp_path.joinpath(f"{HERE}.pub").unlink()
    clock.now_s += CHECK_INTERVAL_S
    assert (False, before) == (ring.has_key_of(HERE), ring.public)


@pytest.mark.parametrize(
    ("break_it", "says"),
    [
        (lambda folder: (folder / f"{HERE}.key").unlink(), "No such file"),
        (lambda folder: (folder / f"{HERE}.key").chmod(0o644), "chmod 600"),
        (lambda folder: (folder / f"{HERE}.key").write_text("short\n"), "40 characters of Z85"),
        (lambda folder: (folder / f"{HERE}.key").write_bytes(b"\xff"), "not text"),
        (lambda folder: (folder / f"{HERE}.pub").unlink(), "there is no valid"),
    ],
)
def test_a_process_without_good_keys_does_not_start(tmp_path: Path, break_it: object, says: str) -> None:
    """The sentence names the file and the cure."""
    keys.write_pair(tmp_path, HERE)
    assert callable(break_it)
    break_it(tmp_path)

    with pytest.raises(ConfigError, match=says):
        Keyring(tmp_path, HERE)


def test_keys_that_are_no_pair_are_told(tmp_path: Path) -> None:
    """Else nobody would let that process in, and nothing would say why."""
    write_config(tmp_path / "config.toml", more='[security]\nkeys = "keys"\n')
    settings, folder = config.load(tmp_path / "config.toml"), tmp_path / "keys"
    keys.write_pair(folder, HERE)
    assert process.keyring_of(settings, tmp_path, HERE)
    keys.write_pair(folder, THERE)
    (folder / f"{THERE}.pub").replace(folder / f"{HERE}.pub")

    with pytest.raises(ConfigError, match=f"{HERE}.pub and {HERE}.key in .* are no pair"):
        process.keyring_of(settings, tmp_path, HERE)


def test_a_number_that_is_too_large_is_no_key(tmp_path: Path, ring: Keyring, clock: Clock) -> None:
    """Each five characters are 32 bits: libzmq would refuse others when they are used."""
    (tmp_path / f"{THERE}.pub").write_text("%nSc1" * 8)
    clock.now_s += CHECK_INTERVAL_S
    assert not ring.has_key_of(THERE)
    (tmp_path / f"{THERE}.pub").write_text("%nSc0" * 8)
    clock.now_s += CHECK_INTERVAL_S
    assert ring.has_key_of(THERE)


def run(*arguments: str, config: Path) -> tuple[int, str]:
    """Exit code and output of a command of scripts.keys."""
    result = CliRunner().invoke(keys.main, [*arguments, "--config", str(config)])
    return (1, str(result.exception)) if isinstance(result.exception, FatalError) else (result.exit_code, result.output)


def test_the_command_makes_keys_for_all_that_are_configured(tmp_path: Path) -> None:
    """Each listener and the operator get a pair, the secret half for its owner alone; a second run keeps them."""
    write_config(tmp_path / "config.toml")
    code, said = run("make", config=tmp_path / "config.toml")
    folder = tmp_path / "keys"

    assert (0, 7, 7) == (code, len(list(folder.glob("*.pub"))), said.count("made "))
    assert {0o600} == {file.stat().st_mode & 0o777 for file in folder.glob("*.key")}
    assert 0o700 == folder.stat().st_mode & 0o777
    assert 'keys = "keys"' in said
    assert 7 == run("make", config=tmp_path / "config.toml")[1].count("kept ")
    assert 7 == run("list", config=tmp_path / "config.toml")[1].count("yes")


def test_one_key_is_made_replaced_and_removed(tmp_path: Path) -> None:
    """By its name; what is no name, or is not there, is told."""
    write_config(tmp_path / "config.toml")
    config, public = tmp_path / "config.toml", tmp_path / "keys" / f"{OPERATOR}.pub"
    assert 0 == run("make", OPERATOR, config=config)[0]
    before = public.read_text()

    assert 0 == run("make", "--replace", OPERATOR, config=config)[0]
    assert before != public.read_text()
    assert 0 == run("remove", OPERATOR, config=config)[0]
    assert not public.exists()
    assert "there is no public key of" in run("remove", OPERATOR, config=config)[1]
    assert "host:port" in run("make", "../../etc/x", config=config)[1]
    assert "0.0.0.0:5002 names no single process" in run("make", "0.0.0.0:5002", config=config)[1]


def test_a_secret_key_that_is_not_here_is_told(tmp_path: Path) -> None:
    """Of a process on another host there is only the public one."""
    write_config(tmp_path / "config.toml")
    assert 0 == run("make", HERE, config=tmp_path / "config.toml")[0]
    (tmp_path / "keys" / f"{HERE}.key").unlink()

    assert ".pub and no .key (it belongs only on its own host)" in run("make", HERE, config=tmp_path / "config.toml")[1]


def test_keys_that_cannot_be_written_are_told(tmp_path: Path) -> None:
    """The sentence names the file."""
    (tmp_path / "file").write_text("")

    with pytest.raises(FatalError, match=os.fspath(tmp_path / "file")):
        keys.write_pair(tmp_path / "file", HERE)
