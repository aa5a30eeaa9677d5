"""Tests of the wheel: `threefold` in a virtual environment of its own, called from another folder."""

import json
import os
import subprocess
import sys
import sysconfig
import venv
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from common import VERSION
from scripts.launcher.ports import free_addresses
from scripts.launcher.processes import ROOT

LONGEST_S = 120
NEEDED = {  # beside modules
    "common/settings/default.toml",
    "facade/api/page/assets/index.html",
    "facade/api/page/assets/vendor/preact.module.js",
    "nodes/hazelcast/member.yaml",
    "scripts/launch.sh",
    f"threefold-{VERSION}.dist-info/entry_points.txt",
}


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel of this checkout; uv has the build backend in it, so nothing is downloaded."""
    folder = tmp_path_factory.mktemp("wheel")
    uv = Path(sysconfig.get_path("scripts")) / "uv"
    run([str(uv), "build", "--quiet", "--offline", "--wheel", "--out-dir", str(folder), str(ROOT)], folder, {})
    (built,) = folder.glob("*.whl")
    return built


@pytest.fixture(scope="module")
def threefold(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> str:
    """The path of the console script in a new virtual environment, which has the libraries of this one."""
    folder = tmp_path_factory.mktemp("installed")
    venv.create(folder, symlinks=True)
    pip = [sys.executable, "-m", "pip", "--python", str(folder), "install", "--quiet", "--no-deps", "--no-index"]
    run([*pip, str(wheel)], folder, {})
    (packages,) = folder.glob("lib/python*/site-packages")
    (packages / "libraries.pth").write_text(sysconfig.get_path("purelib"))
    return str(folder / "bin" / "threefold")


@pytest.fixture
def environ(tmp_path: Path) -> dict[str, str]:
    """The variables of an embedded cluster on free ports; there is no configuration file."""
    messages, facade, registry, *others = free_addresses(12)
    return {
        "XDG_STATE_HOME": str(tmp_path / "state"),
        "THREEFOLD_SERVICE_IPS__MESSAGES_SERVICE": messages,
        "THREEFOLD_SERVICE_IPS__LOGGING_SERVICE": ",".join(others[:3]),
        "THREEFOLD_HAZELCAST__HAZELCAST_CLIENTS": json.dumps(others[3:6]),
        "THREEFOLD_METRICS__LOGGING_SERVICE": ",".join(others[6:]),
        "THREEFOLD_REGISTRY__ADDRESSES": registry,
        "THREEFOLD_FACADE__ADDRESS": facade,
        "THREEFOLD_STORAGE__ENGINE": "embedded",
        "FACADE_URL": f"http://{facade}",
    }


@pytest.fixture
def running(threefold: str, environ: dict[str, str], tmp_path: Path) -> Iterator[None]:
    """The cluster of these variables."""
    try:
        run([threefold, "cluster", "up"], tmp_path, environ)
        yield
    finally:
        run([threefold, "cluster", "down"], tmp_path, environ)


def run(command: list[str], folder: Path, environ: dict[str, str], *, stdin: str = "") -> str:
    """Run a command in a folder with some text as its input, and return its output; it must succeed."""
    own = {name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "PYTHONHOME")}
    ended = subprocess.run(
        command,
        cwd=folder,
        env=own | environ,
        input=stdin,
        capture_output=True,
        text=True,
        timeout=LONGEST_S,
        check=False,
    )
    assert 0 == ended.returncode, f"{command}\n{ended.stdout}{ended.stderr}"
    return ended.stdout


def test_the_wheel_has_what_a_cluster_needs(wheel: Path) -> None:
    """Every module, and the files that they read; no test and no note for developers."""
    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())
    packages = ("common", "facade", "nodes", "registry", "scripts")
    modules = {path.relative_to(ROOT).as_posix() for package in packages for path in (ROOT / package).rglob("*.py")}

    assert set() == (NEEDED | modules) - names
    assert set() == {name for name in names if name.startswith("tests/") or name.endswith("DESIGN.md")}


def test_the_program_names_its_version(threefold: str, tmp_path: Path) -> None:
    """It is the one in pyproject.toml."""
    assert f"threefold {VERSION}\n" == run([threefold, "--version"], tmp_path, {})


def test_the_program_has_the_protections_of_every_entry_point(threefold: str) -> None:
    """Output that cannot be written, and streams that the caller closed, are one sentence or nothing."""
    ended = [
        subprocess.run(
            ["sh", "-c", f"'{threefold}' {arguments}"], capture_output=True, text=True, check=False, timeout=60
        )
        for arguments in ("config show >/dev/full", "config show <&- >&- 2>&-")
    ]

    assert [
        (1, "threefold: the output cannot be written: No space left on device\n"),
        (0, ""),
    ] == [(one.returncode, one.stderr) for one in ended]


def test_the_packaged_configuration_is_the_default(threefold: str, tmp_path: Path) -> None:
    """A config.toml in the current folder precedes it."""
    environ = {"XDG_STATE_HOME": str(tmp_path / "state")}

    def source() -> str:
        shown = json.loads(run([threefold, "config", "show", "-o", "json"], tmp_path, environ))
        (found,) = [str(one["source"]) for one in shown if one["key"] == "messages-service"]
        return found

    assert source().endswith("site-packages/common/settings/default.toml")
    run([threefold, "config", "init", "--config", "config.toml"], tmp_path, environ)
    assert "file:config.toml" == source()


@pytest.mark.usefixtures("running")
def test_a_cluster_runs_without_a_checkout(threefold: str, environ: dict[str, str], tmp_path: Path) -> None:
    """Messages are sent, read, exported and imported; the data lies in the state folder."""
    run([threefold, "send", "one", "two"], tmp_path, environ)
    exported = run([threefold, "export"], tmp_path, environ)
    run([threefold, "import"], tmp_path, environ, stdin=exported)
    shown = run([threefold, "-o", "ndjson", "read"], tmp_path, environ)

    assert ["one", "two"] == [json.loads(line)["msg"] for line in shown.splitlines()]
    assert ["one", "two"] == [json.loads(line)["msg"] for line in exported.splitlines()]
    assert 3 == len(list((tmp_path / "state" / "threefold" / "data").glob("journal-*.sqlite")))
