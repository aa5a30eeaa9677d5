"""Tests of the shell scripts on a cluster of their own, run from another folder."""

import os
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from scripts.launcher.cluster import Cluster
from scripts.launcher.ports import write_config
from scripts.launcher.processes import ROOT

Run = subprocess.CompletedProcess[str]


class Shell:
    """Runs the scripts as a user would, from a folder outside the project."""

    def __init__(self, folder: Path) -> None:
        write_config(folder / "config.toml")
        self.folder = folder
        self.cluster = Cluster(folder / "config.toml")
        self._environ = os.environ | {
            "THREEFOLD_CONFIG": "config.toml",
            "FACADE_URL": f"http://{self.cluster.settings.facade.address}/facade",
            "REPLIES_DIR": "replies",
        }

    def __call__(self, script: str, *arguments: str, answer: str = "") -> Run:
        """Run one script, with an answer to its question."""
        return subprocess.run(
            [ROOT / "scripts" / script, *arguments],
            cwd=self.folder,
            env=self._environ,
            input=answer,
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )


@pytest.fixture
def shell(tmp_path: Path, runtime: object) -> Iterator[Shell]:
    """The scripts with a cluster that is down."""
    del runtime
    made = Shell(tmp_path)
    yield made
    made.cluster.down()
    made.cluster.close()


SENT = "".join(f"Sent: msg{number} - SUCCESS\n" for number in range(1, 11))
LOGS = [f'"msg{number}"' for number in range(1, 11)]


@pytest.mark.parametrize("dead", ["1", "2"])
def test_the_walk_through_loses_nothing(shell: Shell, dead: str) -> None:
    """All messages are read before and after one or two nodes were killed, and the replies are kept in files."""
    launched = shell("launch.sh")
    assert (0, "") == (launched.returncode, launched.stderr)
    assert re.search(r"^ready in \d+\.\d s: http://", launched.stdout, re.MULTILINE)
    assert (0, SENT) == ((posted := shell("send_post_req.sh")).returncode, posted.stdout)
    ten, twenty = ('{"logs":[' + ",".join(logs) + '],"message":"not implemented yet"}\n' for logs in (LOGS, LOGS * 2))
    assert (0, ten) == ((got := shell("send_get_req.sh")).returncode, got.stdout)
    assert 0 == shell("test_shut_down.sh", dead).returncode
    assert (0, ten) == ((got := shell("send_get_req.sh")).returncode, got.stdout)
    assert (0, SENT) == ((posted := shell("send_post_req.sh")).returncode, posted.stdout)
    assert (0, twenty) == ((got := shell("send_get_req.sh")).returncode, got.stdout)
    stopped = shell("kill.sh", "-y")
    assert (0, "the cluster is down\n") == (stopped.returncode, stopped.stdout)

    kept = (shell.folder / "replies" / "post_replies.log").read_text()
    replies = r'(Logging time: \d\d-\d\d-\d{4} \d\d:\d\d:\d\d\n{"status":"success","uuid":"[0-9a-f-]{36}"}\n){20}'
    assert re.fullmatch(replies, kept)
    assert 3 == (shell.folder / "replies" / "get_replies.log").read_text().count("Logging time: ")


def test_the_scripts_report_failures_without_a_cluster(shell: Shell) -> None:
    """Posts and reads that fail are printed, and exit with another code than 0."""
    posted, got, killed = shell("send_post_req.sh"), shell("send_get_req.sh"), shell("kill_node.sh", "1")

    assert (1, SENT.replace("SUCCESS", "FAILED")) == (posted.returncode, posted.stdout)
    assert got.returncode != 0
    assert "onnect" in got.stderr
    assert (1, "cluster: logging-1 is not running\n") == (killed.returncode, killed.stderr)


def test_wrong_arguments_are_one_sentence(shell: Shell) -> None:
    """The number of nodes to kill must be 1 or 2, and no answer but yes stops the cluster."""
    usage = shell("test_shut_down.sh", "3")

    assert (2, "usage: test_shut_down.sh 1|2 (how many logging nodes to kill)\n") == (usage.returncode, usage.stderr)
    assert "Missing argument" in shell("kill_node.sh").stderr
    for answer in ("n\n", "", "maybe\n"):
        asked = shell("kill.sh", answer=answer)
        assert (1, "Stop the whole cluster? [y/n] nothing was stopped\n") == (asked.returncode, asked.stdout)
    assert 0 == shell("kill.sh", answer="y\n").returncode
