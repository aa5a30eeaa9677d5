"""Tests of common.settings.files."""

from pathlib import Path

import pytest

from common.errors import ConfigError
from common.settings import files
from scripts.launcher.processes import ROOT


def test_the_packaged_file_is_that_of_the_checkout() -> None:
    """An installed package starts with the addresses that users know."""
    assert files.CHECKOUT == ROOT / "config.toml"
    assert files.CHECKOUT.read_text() == files.PACKAGED.read_text()


def test_a_checkout_has_precedence_over_the_current_folder_and_that_over_the_state(tmp_path: Path) -> None:
    """The file in the state folder need not exist."""
    environ = {"XDG_STATE_HOME": str(tmp_path / "state")}
    checkout, folder = tmp_path / "checkout" / "config.toml", tmp_path / "here"

    def found() -> Path:
        return files.default_path(environ, checkout=checkout, folder=folder)

    assert tmp_path / "state" / "threefold" / "config.toml" == found()
    for path in (folder / "config.toml", checkout):
        path.parent.mkdir()
        path.touch()
        assert path == found()


def test_a_relative_state_folder_is_ignored() -> None:
    """That is the rule of the XDG base folders; the default is in the home folder."""
    expected = Path.home() / ".local" / "state" / "threefold"

    assert [expected, expected] == [files.state_folder({}), files.state_folder({"XDG_STATE_HOME": "relative"})]


def test_only_a_missing_file_in_the_state_folder_is_replaced_by_the_packaged_one(tmp_path: Path) -> None:
    """A file that somebody named must exist."""
    environ = {"XDG_STATE_HOME": str(tmp_path)}
    own = tmp_path / "threefold" / "config.toml"

    assert files.PACKAGED == files.readable(own, environ)
    assert tmp_path / "none.toml" == files.readable(tmp_path / "none.toml", environ)
    own.parent.mkdir()
    own.write_text("[facade]\nthreads = 1\n")
    assert own == files.readable(own, environ)
    assert {"facade": {"threads": 1}} == files.decoded(own)


@pytest.mark.parametrize(
    ("content", "reason"), [(b"\xff\xfe", "it is not UTF-8 text"), (b"[facade", "is not valid TOML")]
)
def test_a_file_that_cannot_be_decoded_is_named(tmp_path: Path, content: bytes, reason: str) -> None:
    """The error is one sentence with the path."""
    (tmp_path / "config.toml").write_bytes(content)

    with pytest.raises(ConfigError, match=reason) as caught:
        files.decoded(tmp_path / "config.toml")
    assert str(tmp_path / "config.toml") in str(caught.value)
