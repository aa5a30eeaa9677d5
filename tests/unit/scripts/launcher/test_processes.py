"""Tests of scripts.launcher.processes."""

import os
import signal
import stat
import subprocess
import sys
import time
from functools import partial
from pathlib import Path

import psutil
import pytest

from scripts.launcher import processes
from tests.support.waiting import eventually


def test_a_process_is_gone_only_when_its_last_thread_has_ended() -> None:
    """The first thread is a zombie before that, and waiting for the process would not reap it yet."""
    program = "import threading\nfor _ in range(200): threading.Thread(target=input).start()\nprint()"
    for _ in range(6):
        with subprocess.Popen([sys.executable, "-c", program], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as child:
            assert child.stdout
            child.stdout.readline()
            child.kill()
            found = psutil.Process(child.pid)
            eventually(partial(processes.gone, found), pause=lambda: None)
            assert -signal.SIGKILL == child.poll()


def test_a_record_of_an_earlier_boot_names_no_process(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """After a restart of the machine, another program may have the number and the start time of a recorded process."""
    made = processes.Processes(tmp_path / "data")
    made.start("sleeper", ("http.server", "0", "--bind", "127.0.0.1"), engine="embedded")
    found = made.find("sleeper")
    assert found is not None
    try:
        other = tmp_path / "boot_id"
        other.write_text("another boot\n")
        with monkeypatch.context() as patch:
            patch.setattr(processes, "BOOT_ID", other)
            assert (None, None, []) == (made.find("sleeper"), made.engine(), made.names())
        assert ["sleeper"] == made.names()
    finally:
        found.kill()
        eventually(lambda: made.find("sleeper") is None)
        made.forget()


def test_a_process_gets_the_environment_that_it_is_started_with(tmp_path: Path) -> None:
    """Nothing else of this process is in it."""
    made = processes.Processes(tmp_path / "data")
    arguments = ("timeit", "-n1", "-r1", "import os", "print(dict(os.environ))")
    made.start(
        "printer", arguments, engine="embedded", environ={"THREEFOLD_FACADE__THREADS": "7", "LC_CTYPE": "C.UTF-8"}
    )
    eventually(lambda: made.find("printer") is None)
    made.forget()
    (printed, *_) = made.log_path("printer").read_text().splitlines()

    assert "{'THREEFOLD_FACADE__THREADS': '7', 'LC_CTYPE': 'C.UTF-8'}" == printed


def test_a_process_is_found_again_after_a_step_of_the_clock(tmp_path: Path) -> None:
    """Its start is known in seconds since the boot; the time of day at its start would move with the clock."""
    started = processes.Processes(tmp_path / "data")
    started.start("sleeper", ("http.server", "0", "--bind", "127.0.0.1"), engine="embedded")
    found = started.find("sleeper")
    try:
        assert found is not None
        boot_s = time.clock_gettime(time.CLOCK_BOOTTIME)
        assert boot_s - 60.0 < processes.started_at(found) < boot_s + 1.0
        assert "embedded" == processes.Processes(tmp_path / "data").engine()
    finally:
        if found:
            found.kill()
            eventually(lambda: started.find("sleeper") is None)
        started.forget()


def test_what_the_launcher_writes_is_private(tmp_path: Path) -> None:
    """Logs have texts of messages, and the folder has the journals: the account's umask does not matter."""
    before = os.umask(0o022)
    try:
        made = processes.Processes(tmp_path / "data")
        made.start("short", ("this",), engine="embedded")
        eventually(lambda: made.find("short") is None)
    finally:
        os.umask(before)
    modes = {path.relative_to(tmp_path).as_posix(): stat.S_IMODE(path.stat().st_mode) for path in tmp_path.rglob("*")}

    made.forget()

    assert {"data": 0o700, "data/logs": 0o700, "data/logs/short.log": 0o600, "data/processes.json": 0o600} == modes
