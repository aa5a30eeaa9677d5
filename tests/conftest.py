"""Fixtures: the Java that members run on, and real clusters. And how tests are spread over processes (pytest-xdist)."""

import os
import weakref
from collections.abc import Iterator
from typing import Any

import greenlet
import pytest
import structlog
from structlog.typing import EventDict

from common.rpc.pooled import PooledTransport
from nodes.hazelcast.java import JavaRuntime
from scripts.launcher.cluster import Cluster
from scripts.prepare import prepare
from tests.support.clusters import restore, running_cluster
from tests.support.selection.groups import GroupScheduling, sort_key
from tests.support.selection.requirements import MissingRequirements

# Tests whose processes do not count for coverage: measuring takes a third of their CPU time, and shows nothing new.
UNMEASURED = (
    "tests/cluster/chaos/",
    "tests/cluster/hazelcast/",
    "tests/cluster/interface/test_page.py",
    "tests/cluster/interface/test_openapi.py",
    "tests/cluster/interface/test_readme.py",
    "tests/cluster/interface/test_scripts.py",
    "tests/cluster/test_hostile.py",
    "tests/cluster/test_recovery.py",
    "tests/fuzz/",
    "tests/simulation/",
)

missing = MissingRequirements()


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave out tests that this machine cannot run, and put the longest groups first."""
    items[:] = missing.select(items)
    if hasattr(config, "workeroutput"):
        config.workeroutput["missing"] = dict(missing.left_out)
    items.sort(key=sort_key)


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> GroupScheduling:
    """Run each group in one process."""
    return GroupScheduling(config, log)


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node: Any) -> None:
    """Take from a process of pytest-xdist what it left out: each of them collects all tests."""
    missing.left_out.update(getattr(node, "workeroutput", {}).get("missing", {}) if not missing.left_out else {})


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Say in one line what was not tested."""
    if sentence := missing.sentence():
        terminalreporter.write_line(sentence, yellow=True)


@pytest.fixture(autouse=True, scope="module")
def _processes_that_do_not_count(request: pytest.FixtureRequest) -> Iterator[None]:
    """Start the processes of the tests in UNMEASURED without coverage."""
    with pytest.MonkeyPatch.context() as patch:
        if request.node.nodeid.startswith(UNMEASURED):
            for name in [name for name in os.environ if name.startswith("COVERAGE_")]:
                patch.delenv(name)
        yield


@pytest.fixture
def logged() -> Iterator[list[EventDict]]:
    """The log lines of this process during the test."""
    with structlog.testing.capture_logs() as lines:
        yield lines


@pytest.fixture(scope="session")
def runtime() -> JavaRuntime:
    """Java and the Hazelcast jar, with the class-data archive."""
    return prepare(lambda _line: None)


@pytest.fixture(scope="session")
def cluster(runtime: JavaRuntime, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """A real cluster that many tests share: they leave it intact, and expect messages of others in it."""
    del runtime
    with running_cluster(tmp_path_factory.mktemp("shared"), engine="hazelcast") as running:
        yield running


@pytest.fixture
def restored_cluster(cluster: Cluster) -> Iterator[Cluster]:
    """The shared cluster for a test that ends parts of it; what is missing after the test is started again."""
    yield cluster
    restore(cluster)


@pytest.fixture(scope="module")
def module_cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """A cluster on the embedded engine for the tests of one file."""
    with running_cluster(tmp_path_factory.mktemp("embedded"), engine="embedded") as running:
        yield running


@pytest.fixture
def embedded_cluster(module_cluster: Cluster) -> Iterator[Cluster]:
    """The embedded cluster of the file; tests may end parts of it, and expect messages of others in it."""
    yield module_cluster
    restore(module_cluster)


@pytest.fixture
def transport() -> Iterator[PooledTransport]:
    """A transport on real sockets, which are closed after the test."""
    made = PooledTransport()
    yield made
    made.close()


@pytest.fixture(autouse=True)
def _no_greenlet_is_left(request: pytest.FixtureRequest) -> Iterator[None]:
    """End the greenlets of each test; those of a browser live as long as it.

    CPython 3.11 raises SystemError in `ast.parse` if the garbage collector ends a greenlet meanwhile.
    """
    if "browser" in request.fixturenames:
        yield
        return
    seen: weakref.WeakSet[greenlet.greenlet] = weakref.WeakSet()
    before = greenlet.settrace(lambda _event, switch: seen.update(switch))
    yield
    greenlet.settrace(before)
    for left in [one for one in seen if not one.dead and one.parent is not None]:
        try:
            left.throw()
        except greenlet.error:  # it belongs to a thread that has ended
            continue
