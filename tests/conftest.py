"""Fixtures: the Java that members run on, and real clusters. And how tests are spread over processes (pytest-xdist)."""

import weakref
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import greenlet
import pytest
import structlog
from structlog.typing import EventDict

from common.rpc.pooled import PooledTransport
from nodes.hazelcast.java import JavaRuntime
from scripts.launcher.cluster import Cluster
from scripts.prepare import prepare
from tests.support.clusters import running_cluster
from tests.support.requirements import MissingRequirements

# Tests of one group run one after the other, in one process: so that the shared cluster is started once, and that
# there are never more clusters at a time than two cores can take.
GROUPS = (("tests/cluster/chaos/", "chaos"), ("tests/cluster/", "own clusters"), ("tests/fuzz/", "own clusters"))

missing = MissingRequirements()


@pytest.hookimpl(tryfirst=True)  # pytest-xdist reads the groups afterwards
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave out tests that this machine cannot run; put the longest groups first, and each group into one process."""
    items[:] = missing.select(items)
    if hasattr(config, "workeroutput"):
        config.workeroutput["missing"] = dict(missing.left_out)
    for item in items:
        if group := _group(item):
            item.add_marker(pytest.mark.xdist_group(group))
    items.sort(key=lambda item: (_group(item) is None, "browser" in getattr(item, "fixturenames", ())))


def _group(item: pytest.Item) -> str | None:
    if "cluster" in getattr(item, "fixturenames", ()):
        return "shared cluster"
    return next((group for folder, group in GROUPS if item.nodeid.startswith(folder)), None)


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node: Any) -> None:
    """Take from a process of pytest-xdist what it left out: each of them collects all tests."""
    missing.left_out.update(getattr(node, "workeroutput", {}).get("missing", {}) if not missing.left_out else {})


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Say in one line what was not tested."""
    if sentence := missing.sentence():
        terminalreporter.write_line(sentence, yellow=True)


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
def own_cluster(runtime: JavaRuntime, tmp_path: Path) -> Iterator[Cluster]:
    """A real cluster for one test that kills parts of it."""
    del runtime
    with running_cluster(tmp_path, engine="hazelcast") as running:
        yield running


@pytest.fixture
def embedded_cluster(tmp_path: Path) -> Iterator[Cluster]:
    """A cluster on the embedded engine for one test."""
    with running_cluster(tmp_path, engine="embedded") as running:
        yield running


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
