"""Tests of common.process."""

from pathlib import Path

import pytest

from common import config, process
from common.errors import ConfigError
from scripts import keys
from scripts.launcher.ports import write_config

OWN, PEER = "127.0.0.1:5002", "127.0.0.1:5003"


def test_a_public_key_that_does_not_fit_the_secret_one_is_refused(tmp_path: Path) -> None:
    """Otherwise no other process would admit this one, and nothing would say why."""
    write_config(tmp_path / "config.toml", more='[security]\nkeys = "keys"\n')
    settings, folder = config.load(tmp_path / "config.toml"), tmp_path / "keys"
    keys.write_pair(folder, OWN)
    assert process.keyring_of(settings, tmp_path, OWN)
    keys.write_pair(folder, PEER)
    (folder / f"{PEER}.pub").replace(folder / f"{OWN}.pub")

    with pytest.raises(ConfigError, match=f"{OWN}.pub and {OWN}.key in .* do not belong together"):
        process.keyring_of(settings, tmp_path, OWN)
