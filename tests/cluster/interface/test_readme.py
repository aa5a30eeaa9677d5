"""Runs the walk-through of README.md on a cluster of its own; tests/unit/test_documents.py tests the rest."""

import os
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from scripts.launcher.cluster import Cluster
from scripts.launcher.ports import write_config
from scripts.launcher.processes import ROOT

README = (ROOT / "README.md").read_text()
DIFFERENT = {  # what differs in each run; spaces come first, since a table pads its cells to the widest
    r" +": " ",
    r"[0-9a-f]{8}-[0-9a-f-]{27}": "<uuid>",
    r"\d{4}-\d\d-\d\dT[\d:.]+Z": "<time>",
    r"00-[0-9a-f]{32}-[0-9a-f]{16}-00": "<traceparent>",
    r"[0-9a-f]{32}": "<trace>",
    r"(localhost|127\.0\.0\.1):\d+": "<address>",
    r"\d+\.\d s": "<seconds>",
    r"processes [\d, ]+": "<processes>",
    r"│ \d+ │ ready": "│ <pid> │ ready",
}


def walk_through() -> Iterator[tuple[str, list[str]]]:
    """(command, printed output) of each step in the section "A walk through"."""
    section = README.partition("## A walk through")[2].partition("\n## ")[0]
    for block in re.findall(r"```console\n(.*?)```", section, re.DOTALL):
        for part in re.split(r"^\$ ", block, flags=re.MULTILINE)[1:]:
            command, *output = part.splitlines()
            yield command, output


def comparable(line: str) -> str:
    """A printed line without what differs in each run."""
    for pattern, name in DIFFERENT.items():
        line = re.sub(pattern, name, line)
    return line


@pytest.fixture
def cluster_of_reader(tmp_path: Path, runtime: object) -> Iterator[Cluster]:
    """A cluster that is down, on free ports, for a reader who types the commands of README.md."""
    del runtime
    write_config(tmp_path / "config.toml")
    made = Cluster(tmp_path / "config.toml")
    yield made
    made.down()
    made.close()


def test_the_walk_through_prints_what_the_readme_shows(cluster_of_reader: Cluster, tmp_path: Path) -> None:
    """Each command exits with 0, and prints the documented lines in the same order."""
    facade = cluster_of_reader.settings.facade.address
    environ = os.environ | {
        "THREEFOLD_CONFIG": str(tmp_path / "config.toml"),
        "FACADE_URL": f"http://{facade}/facade",
        "REPLIES_DIR": str(tmp_path / "replies"),
    }
    commands = list(walk_through())
    assert len(commands) >= 10
    for command, output in commands:
        typed = command.replace("localhost:5000", facade).replace("data/logs", str(tmp_path / "data" / "logs"))
        ended = subprocess.run(
            ["/bin/sh", "-c", typed], cwd=ROOT, env=environ, capture_output=True, text=True, check=False, timeout=120
        )
        assert 0 == ended.returncode, f"{command}\n{ended.stdout}{ended.stderr}"
        printed = iter(map(comparable, ended.stdout.splitlines()))
        for line in map(comparable, output):
            assert line in printed, f"{command}: no {line!r} in its place in:\n{ended.stdout}"
