"""Tests of the structure: who may import whom, and how large a folder and a file may be."""

import ast
import re
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from scripts.launcher.processes import ROOT

PACKAGES = ("common", "facade", "nodes", "registry", "scripts")
HOME_OF = {  # the one subpackage that imports each of these libraries
    "zmq": ("common/rpc/zmq/",),
    "falcon": ("facade/api/", "facade/app.py"),
    "hazelcast": ("nodes/hazelcast/",),
    "waitress": ("facade/server/",),
}
WITHOUT_MODULE = (  # files of tests/unit that test no single module
    "chaos/test_broken_services.py",
    "scripts/test_shell_scripts.py",
)
WITHOUT_TEST = (  # modules that decide nothing, and programs that tests/cluster runs as a user does
    *("common/discovery/leases.py", "common/rpc/loop.py"),
    *("facade/status/schema.py", "nodes/replication/core/effects.py"),
    *("scripts/demo.py", "scripts/export.py", "scripts/import.py"),
)
MOST_IN_A_FOLDER = 8  # files, and folders: as many as one sees at a glance


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


def test_each_library_is_imported_in_one_subpackage() -> None:
    """ZeroMQ, Falcon, Hazelcast and waitress are imported in one subpackage each."""
    elsewhere = [
        (file, name) for file, name in imports() if not file.startswith(HOME_OF.get(name.partition(".")[0], ("",)))
    ]

    assert [] == elsewhere


def test_no_folder_has_too_many_files() -> None:
    """At most eight modules and eight folders are in a folder, so that a newcomer finds the way."""
    too_many = {}
    for package in (*PACKAGES, "tests"):
        for folder in [ROOT / package, *(path for path in (ROOT / package).rglob("*") if path.is_dir())]:
            modules = [path for path in folder.glob("*.py") if path.name != "__init__.py"]
            folders = [path for path in folder.iterdir() if path.is_dir() and any(path.glob("*.py"))]
            if len(modules) > MOST_IN_A_FOLDER or len(folders) > MOST_IN_A_FOLDER:
                too_many[folder.relative_to(ROOT).as_posix()] = (len(modules), len(folders))

    assert {} == too_many


def test_no_class_name_stands_twice() -> None:
    """One word is one thing: two classes of the product never share a name."""
    classes = Counter(
        node.name
        for package in PACKAGES
        for path in (ROOT / package).rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.ClassDef)
    )

    assert {} == {name: count for name, count in classes.items() if count > 1}


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


def test_no_test_imports_a_test() -> None:
    """Tests share code through tests.support."""
    found = [
        (path.relative_to(ROOT).as_posix(), node.module)
        for path in (ROOT / "tests").rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.ImportFrom) and re.search(r"\.(test_\w+|conftest)$", str(node.module))
    ]

    assert [] == found


def test_unit_tests_mirror_the_packages() -> None:
    """tests/unit/<package>/test_<module>.py tests that module of the product, or of the tests' own tools."""
    unit = ROOT / "tests" / "unit"
    unmatched = {
        file.as_posix()
        for path in unit.rglob("test_*.py")
        if len((file := path.relative_to(unit)).parts) > 1 and not any(map(Path.exists, modules_of(file)))
    }

    assert set(WITHOUT_MODULE) == unmatched


def test_each_module_has_its_test() -> None:
    """A module of the product is tested in the file that its path names, so that a reader finds its examples."""
    untested = {
        module.as_posix()
        for package in PACKAGES
        for path in (ROOT / package).rglob("*.py")
        if path.name != "__init__.py"
        and not (
            ROOT / "tests" / "unit" / (module := path.relative_to(ROOT)).parent / f"test_{module.stem.strip('_')}.py"
        ).exists()
    }

    assert set(WITHOUT_TEST) == untested


def modules_of(file: Path) -> Iterator[Path]:
    """Where the module may be that a file of tests/unit tests."""
    name = file.stem.removeprefix("test_")
    for root in (ROOT, ROOT / "tests"):
        yield root / file.parent / f"{name}.py"
        yield root / file.parent / f"__{name}__.py"


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


def test_no_file_of_the_product_is_long() -> None:
    """A module is at most 300 lines, so that it has one subject."""
    lengths = {path: path.read_text().count("\n") for package in PACKAGES for path in (ROOT / package).rglob("*.py")}

    assert {} == {path: length for path, length in lengths.items() if length > 300}
