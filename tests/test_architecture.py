"""Tests of the structure: who may import whom, and that the documents say what the code does."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from scripts import reference
from scripts.processes import ROOT

PACKAGES = ("common", "facade", "nodes", "registry", "scripts")
SEAMS = {
    ("zmq", "common/pipeline.py"),
    ("zmq", "common/curve.py"),
    ("zmq", "common/rpc.py"),
    ("falcon", "facade/api/app.py"),
    ("falcon", "facade/api/resources.py"),
    ("hazelcast", "nodes/hazelcast/map.py"),
    ("hazelcast", "nodes/hazelcast/putting.py"),
    ("hazelcast", "nodes/hazelcast/text.py"),
    ("waitress", "facade/server/connection.py"),
    ("waitress", "facade/server/parser.py"),
    ("waitress", "facade/server/polling.py"),
    ("waitress", "facade/server/server.py"),
}


def imports() -> Iterator[tuple[str, str]]:
    """(file, imported module) for the whole product."""
    for package in PACKAGES:
        for path in (ROOT / package).rglob("*.py"):
            for node in ast.walk(ast.parse(path.read_text())):
                names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
                if isinstance(node, ast.ImportFrom):
                    assert node.level == 0, f"{path}: relative import"
                    names = [str(node.module)]
                yield from ((path.relative_to(ROOT).as_posix(), name) for name in names)


def test_each_library_of_the_outside_has_one_seam() -> None:
    """Falcon, waitress and Hazelcast are imported by one package each, ZeroMQ for threads and for event loops."""
    libraries = {library for library, _ in SEAMS}
    found = {(name.partition(".")[0], file) for file, name in imports() if name.partition(".")[0] in libraries}

    assert found == SEAMS


def test_facade_nodes_and_registry_know_only_common() -> None:
    """The parts talk over the wire, not through imports; common knows none of them."""
    for file, name in imports():
        part, imported = file.partition("/")[0], name.partition(".")[0]
        if part != "scripts" and imported in PACKAGES:
            assert imported in (part, "common"), f"{file} imports {name}"


def test_what_decides_has_neither_io_nor_clock_nor_chance() -> None:
    """The replication core and the in-sync registry are state machines, which the simulator runs as they are."""
    pure = ("nodes/replication/core/", "registry/in_sync.py")
    outside = {"asyncio", "os", "random", "secrets", "socket", "structlog", "threading", "time", "uuid"}

    assert [] == [(file, name) for file, name in imports() if file.startswith(pure) and name in outside]


def test_the_top_level_is_what_was_agreed() -> None:
    """Nothing but the agreed folders and files lies at the root of the project."""
    listed = {path.name for path in ROOT.iterdir() if not path.name.startswith(".")} - {"data", "build"}
    agreed = {
        *PACKAGES,
        "tests",
        "docs",
        "config.toml",
        "README.md",
        "pyproject.toml",
        "Makefile",
        "LICENSE",
        "CHANGELOG.md",
    }

    assert set() == {name for name in listed if not name.endswith(".egg-info")} - agreed


def test_the_table_of_the_configuration_is_that_of_the_code() -> None:
    """docs/configuration.md is what `make docs` writes."""
    assert reference.configuration() == reference.CONFIGURATION.read_text()
    assert 35 == reference.configuration().count("\n| `")


@pytest.mark.parametrize(
    "path", [*sorted((ROOT / "docs").glob("*.md")), ROOT / "README.md"], ids=lambda path: path.name
)
def test_links_between_documents_lead_somewhere(path: Path) -> None:
    """Every relative link in a document names a file that is there."""
    for target in re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", path.read_text()):
        assert (path.parent / target).exists(), f"{path.name} links to {target}"


def test_no_file_of_the_product_is_long() -> None:
    """A module is at most 300 lines, so that it has one subject."""
    lengths = {path: path.read_text().count("\n") for package in PACKAGES for path in (ROOT / package).rglob("*.py")}

    assert {} == {path: length for path, length in lengths.items() if length > 300}
