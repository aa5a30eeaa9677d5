"""Tests of scripts.launcher.processes."""

import signal
import subprocess
import sys
from functools import partial

import psutil

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
