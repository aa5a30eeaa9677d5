"""Runs the commands of README.md, in their order, on a cluster of its own."""

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from common.config import load
from common.security.keyring import OPERATOR, Keyring
from facade.auth.tokens import Tokens
from scripts.launcher.cluster import Cluster
from scripts.launcher.ports import write_config
from scripts.launcher.processes import ROOT

README = (ROOT / "README.md").read_text()
DIFFERENT = {  # in each run; spaces first, since a table pads its cells to the widest
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
    """(command, output as it is printed in README.md) of the section "A walk through"."""
    section = README.partition("## A walk through")[2].partition("\n## ")[0]
    for block in re.findall(r"```console\n(.*?)```", section, re.DOTALL):
        for part in re.split(r"^\$ ", block, flags=re.MULTILINE)[1:]:
            command, *output = part.splitlines()
            yield command, output


def comparable(line: str) -> str:
    """A printed line without what is different in each run."""
    for pattern, name in DIFFERENT.items():
        line = re.sub(pattern, name, line)
    return line


@pytest.fixture
def cluster_of_reader(tmp_path: Path, runtime: object) -> Iterator[Cluster]:
    """A cluster that is down, on free ports, for a reader who types what README.md says."""
    del runtime
    write_config(tmp_path / "config.toml")
    made = Cluster(tmp_path / "config.toml")
    yield made
    made.down()
    made.close()


def test_the_walk_through_works_as_it_is_printed(cluster_of_reader: Cluster, tmp_path: Path) -> None:
    """Each command exits with 0 and prints what README.md shows, in the same order."""
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


def test_what_is_said_about_keys_and_tokens_works(tmp_path: Path) -> None:
    """The commands that make them, in docs/cli.md and docs/security.md, and the lines of config.toml that use them."""
    texts = [(ROOT / "docs" / name).read_text() for name in ("cli.md", "security.md")]
    ran = 0
    for number, text in enumerate(texts):
        config = tmp_path / str(number) / "config.toml"
        config.parent.mkdir()
        write_config(
            config, more="[security]\n" + "\n".join(re.findall(r'`((?:keys|tokens) = "\w+(?:\.toml)?")`', text))
        )
        for line in re.findall(r"^python -m (scripts\.(?:keys|tokens) [^#\n]*)", text, re.MULTILINE):
            command = [sys.executable, "-m", *line.split(), "--config", str(config)]
            ended = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False, timeout=60)
            assert 0 == ended.returncode, f"{line}\n{ended.stdout}{ended.stderr}"
            ran += 1
        settings = load(config)
        assert Keyring(config.parent / settings.security.keys, OPERATOR).has_key_of(settings.facade.address)
        assert Tokens(config.parent / settings.security.tokens).find("not a token") is None
    assert 10 == ran


def test_the_readme_names_each_target_of_make() -> None:
    """The two commands that README.md begins with are targets of the Makefile."""
    makefile = (ROOT / "Makefile").read_text()

    for target in re.findall(r"^\$ make (\w+)$", README, re.MULTILINE):
        assert re.search(rf"^{target}:", makefile, re.MULTILINE)
