"""Fixtures of the tests of nodes.storage."""

from pathlib import Path

import pytest


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """The file of a journal, in a folder that does not exist yet."""
    return tmp_path / "folder" / "x.sqlite"
