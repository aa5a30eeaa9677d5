"""Tests of common.process."""

import io
import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from common import config, process
from common.errors import ConfigError
from scripts import keys
from scripts.launcher.ports import write_config
from scripts.launcher.processes import ROOT

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


def test_a_server_ignores_a_hangup_and_writes_private_files(tmp_path: Path) -> None:
    """It outlives its terminal, and what it writes is for its own account, whatever the umask was."""
    program = (
        "import os, signal, sys; from pathlib import Path; from common import process\n"
        "def main():\n"
        "    os.kill(os.getpid(), signal.SIGHUP)\n"
        "    Path(sys.argv[1], 'folder').mkdir(); Path(sys.argv[1], 'file').write_text('x')\n"
        "os.umask(0o022); process.entry('test', main, serves=True)()"
    )
    subprocess.run([sys.executable, "-c", program, str(tmp_path)], cwd=ROOT, check=True, timeout=30)

    assert [0o700, 0o600] == [stat.S_IMODE((tmp_path / name).stat().st_mode) for name in ("folder", "file")]


@pytest.mark.parametrize("closed", ["<&-", ">&-", "2>&-", "<&- >&- 2>&-"])
def test_a_closed_stream_is_not_taken_by_the_next_file(tmp_path: Path, closed: str) -> None:
    """Otherwise log lines would go to whatever was opened next, such as a client's socket."""
    program = (
        "import sys; from common import process\n"
        "def main():\n"
        "    with open(sys.argv[1], 'w') as file:\n"
        "        file.write(str(file.fileno()))\n"
        "process.entry('test', main)()"
    )
    made = tmp_path / "made"
    command = f'"{sys.executable}" -c "$program" "{made}" {closed}'
    subprocess.run(["sh", "-c", command], cwd=ROOT, env=os.environ | {"program": program}, check=True, timeout=30)

    assert int(made.read_text()) > 2


def test_a_terminal_gets_no_commands() -> None:
    """Control characters are escaped for a terminal only; tabs and line ends stay."""

    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    text = "a\x1b[2Jb\x9bc\td\ne\x00"
    assert "a\\x1b[2Jb\\x9bc\td\ne\\x00" == process.printable(text, Terminal())
    assert text == process.printable(text, io.StringIO())
