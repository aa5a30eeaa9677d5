"""Tests of the shell scripts without a cluster."""

import subprocess
from pathlib import Path

from scripts.launcher.processes import ROOT


def test_a_script_without_a_virtual_environment_names_the_command_for_it(tmp_path: Path) -> None:
    """In a new clone the error names the command that installs the project."""
    (tmp_path / "scripts").mkdir()
    for name in ("env.sh", "launch.sh"):
        (tmp_path / "scripts" / name).write_bytes((ROOT / "scripts" / name).read_bytes())
    (tmp_path / "scripts" / "launch.sh").chmod(0o755)
    ended = subprocess.run(
        [tmp_path / "scripts" / "launch.sh"], capture_output=True, text=True, check=False, timeout=10
    )

    assert 1 == ended.returncode
    assert "there is no" in ended.stderr
    assert "run `make install` first" in ended.stderr
