"""Tests of facade.auth.tokens: the file of tokens."""

from pathlib import Path

import pytest
from structlog.typing import EventDict

from common.errors import ConfigError
from facade.auth.tokens import Scope, Token, Tokens, digest_of
from scripts import tokens
from tests.support.waiting import ManualClock

RELOAD_S = 1.0  # within which a changed file counts


def test_tokens_change_while_the_facade_runs(tmp_path: Path, logged: list[EventDict]) -> None:
    """A new token is known within a second, a removed one is not; a broken file is logged and changes nothing."""
    clock, file = ManualClock(), tmp_path / "tokens.toml"
    tokens.write(file, [Token("old", (Scope.ADMIN,), digest_of("old"))])
    loaded = Tokens(file, clock=clock)
    tokens.write(file, [Token("new", (Scope.READ,), digest_of("new"))])
    assert loaded.find("new") is None
    clock.now_s += RELOAD_S
    assert ("new", None) == (getattr(loaded.find("new"), "name", None), loaded.find("old"))

    file.write_text("nonsense")
    clock.now_s += RELOAD_S
    assert loaded.find("new") is not None
    file.unlink()
    clock.now_s += RELOAD_S
    assert loaded.find("new") is not None
    assert ["info", "error", "error"] == [line["log_level"] for line in logged]
    assert "tokens changed" == logged[0]["event"]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"nonsense", "is no file of tokens"),
        (b'[[token]]\nname = "a"\nscopes = []\nsha256 = "%s"' % (b"0" * 64), "is no file of tokens"),
        (b'[[token]]\nname = "a"\nscopes = ["root"]\nsha256 = "%s"' % (b"0" * 64), "root"),
        (b'[[token]]\nname = "a"\nscopes = ["read"]\nsha256 = "secret"', "sha256"),
        (2 * b'[[token]]\nname = "a"\nscopes = ["read"]\nsha256 = "%s"\n' % (b"0" * 64, b"1" * 64), "one name"),
        (b"\xff", "UTF-8"),
        (None, "No such file"),
    ],
)
def test_a_facade_does_not_start_with_an_invalid_file(tmp_path: Path, content: bytes | None, message: str) -> None:
    """The error says what is wrong with the file."""
    file = tmp_path / "tokens.toml"
    if content is not None:
        file.write_bytes(content)

    with pytest.raises(ConfigError, match=message):
        Tokens(file)
