"""Fixtures: the Java that members run on, and real clusters."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
import structlog
from structlog.typing import EventDict

from common.errors import FatalError
from common.rpc.pooled import PooledTransport
from facade.server.scheduler import Scheduler
from nodes.hazelcast.java import JavaRuntime
from scripts.launcher.cluster import Cluster
from scripts.prepare import prepare
from tests.support.clusters import running_cluster


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Tests with a browser come last: it leaves an event loop in this thread, and then asyncio.run is refused."""
    items.sort(key=lambda item: "playwright" in getattr(item, "fixturenames", ()))


@pytest.fixture
def logged() -> Iterator[list[EventDict]]:
    """The lines that this process logs meanwhile."""
    with structlog.testing.capture_logs() as lines:
        yield lines


@pytest.fixture(scope="session")
def runtime() -> JavaRuntime:
    """Java and the Hazelcast jar; without them real tests skip on a person's machine and fail on CI."""
    try:
        return prepare(lambda _line: None)
    except FatalError as error:
        if os.environ.get("CI"):
            raise
        pytest.skip(f"no real cluster here: {error}")


@pytest.fixture(scope="session")
def cluster(runtime: JavaRuntime, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """A real cluster that all tests share: they leave it whole, and expect messages of others in it."""
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
    """Real sockets, closed at the end."""
    made = PooledTransport()
    yield made
    made.close()


@pytest.fixture(autouse=True)
def _no_greenlet_is_left(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """End the greenlets of each test.

    CPython 3.11 raises SystemError in `ast.parse` when the garbage collector ends a greenlet meanwhile.
    """
    made: list[Scheduler] = []
    begin = Scheduler.__init__

    def noted(scheduler: Scheduler) -> None:
        begin(scheduler)
        made.append(scheduler)

    monkeypatch.setattr(Scheduler, "__init__", noted)
    yield
    for scheduler in made:
        scheduler.close()
