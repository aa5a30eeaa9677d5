"""Tests of nodes.replication.disk."""

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


class RecordingCore:
    """A core that records the results of commits."""

    def __init__(self) -> None:
        self.results: list[object] = []

    def committed(self, commit: Commit, _now_s: float) -> None:
        """See Core."""
        self.results.append(commit)

    def commit_failed(self, reason: str, _now_s: float) -> None:
        """See Core."""
        self.results.append(reason)


class ScriptedJournal:
    """A journal that commits at once or later, and succeeds or fails."""

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
def test_the_core_gets_the_result_of_each_commit(*, at_once: bool, fails: bool) -> None:
    """The result arrives within the call if the journal commits at once, otherwise when its task ends."""
    core, started = RecordingCore(), list[Coroutine[Any, Any, None]]()

    async def run() -> None:
        journal = cast(Journal, ScriptedJournal(at_once=at_once, fails=fails))
        assert Disk(cast(Core, core), journal, started.append).commit(COMMIT) is at_once
        assert len(started) == (not at_once)
        for work in started:
            assert core.results == []
            await work

    asyncio.run(run())
    assert core.results == ["no room" if fails else COMMIT]
