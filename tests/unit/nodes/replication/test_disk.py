"""Tests of nodes.replication.disk: what the core is told of a commit."""

import asyncio
from collections.abc import Coroutine
from typing import Any, cast

import pytest

from common.errors import StoreError
from nodes.replication.core.effects import Commit
from nodes.replication.core.machine import Core
from nodes.replication.disk import Disk
from nodes.storage.protocol import Journal

COMMIT = Commit((), None)


class Told:
    """A core that keeps what it is told."""

    def __init__(self) -> None:
        self.news: list[object] = []

    def committed(self, commit: Commit, _now_s: float) -> None:
        """See Core."""
        self.news.append(commit)

    def commit_failed(self, reason: str, _now_s: float) -> None:
        """See Core."""
        self.news.append(reason)


class Prepared:
    """A journal that commits at once or later, and fails or not."""

    def __init__(self, *, at_once: bool, fails: bool) -> None:
        self._at_once = at_once
        self._fails = fails

    def commit_now(self, *_arguments: object) -> bool:
        """See Journal."""
        if self._at_once and self._fails:
            raise StoreError("no room")
        return self._at_once

    async def commit(self, *_arguments: object) -> None:
        """See Journal."""
        if self._fails:
            raise StoreError("no room")


@pytest.mark.parametrize("fails", [False, True])
@pytest.mark.parametrize("at_once", [False, True])
def test_the_core_is_told_how_a_commit_ended(*, at_once: bool, fails: bool) -> None:
    """Within the call if the journal does it at once; then the core has more to ask for."""
    core, started = Told(), list[Coroutine[Any, Any, None]]()

    async def run() -> None:
        journal = cast(Journal, Prepared(at_once=at_once, fails=fails))
        assert Disk(cast(Core, core), journal, started.append).commit(COMMIT) is at_once
        assert len(started) == (not at_once)
        for work in started:
            assert core.news == []
            await work

    asyncio.run(run())
    assert core.news == ["no room" if fails else COMMIT]
