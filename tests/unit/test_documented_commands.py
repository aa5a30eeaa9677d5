"""Tests of the commands for keys and tokens in docs/cli.md and docs/hardening.md."""

import re
from pathlib import Path

from common.config import load
from common.security.keyring import OPERATOR, Keyring
from facade.auth.tokens import Tokens
from scripts.launcher.ports import write_config
from scripts.launcher.processes import ROOT
from tests.support.processes import run_program


def test_the_documented_commands_for_keys_and_tokens_work(tmp_path: Path) -> None:
    """The commands run, and the documented lines of config.toml find the files that they make."""
    texts = [(ROOT / "docs" / name).read_text() for name in ("cli.md", "hardening.md")]
    ran = 0
    for number, text in enumerate(texts):
        config = tmp_path / str(number) / "config.toml"
        config.parent.mkdir()
        write_config(
            config, more="[security]\n" + "\n".join(re.findall(r'`((?:keys|tokens) = "\w+(?:\.toml)?")`', text))
        )
        for line in re.findall(r"^python -m (scripts\.(?:keys|tokens) [^#\n]*)", text, re.MULTILINE):
            ended = run_program(*line.split(), "--config", str(config))
            assert 0 == ended.returncode, f"{line}\n{ended.stdout}{ended.stderr}"
            ran += 1
        settings = load(config)
        assert Keyring(config.parent / settings.security.keys, OPERATOR).has_key_of(settings.facade.address)
        assert Tokens(config.parent / settings.security.tokens).find("not a token") is None
    assert 10 == ran
