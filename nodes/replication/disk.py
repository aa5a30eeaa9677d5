"""Executes the core's effects on the journal, and reports the results to the core."""

import asyncio
import contextlib
from collections.abc import Callable, Coroutine
from typing import Any

import structlog

from common.errors import StoreError
from nodes.replication.core.effects import Commit, LoadRecords
from nodes.replication.core.machine import Core
from nodes.storage.protocol import Journal

log = structlog.get_logger()


class Disk:
    """The journal of one replica.

    Args:
        core: the core of the replica; it receives the results.
        journal: stores the records.
        start: runs a coroutine in the background, and wakes the core when it ends.
    """

    def __init__(self, core: Core, journal: Journal, start: Callable[[Coroutine[Any, Any, None]], None]) -> None:
        self._core = core
        self._journal = journal
        self._start = start
        self._loop = asyncio.get_running_loop()

    def commit(self, effect: Commit) -> bool:
        """Commit, at once or in the background; True if it has already ended, so that the core may have new effects."""
        try:
            done = self._journal.commit_now(effect.ranges, effect.in_sync)
        except StoreError as error:
            self._failed(error)
            return True
        if done:
            self._core.committed(effect, self._loop.time())
        else:
            self._start(self._commit(effect))
        return done

    async def _commit(self, effect: Commit) -> None:
        try:
            await self._journal.commit(effect.ranges, effect.in_sync)
        except StoreError as error:
            self._failed(error)
        else:
            self._core.committed(effect, self._loop.time())

    def _failed(self, error: StoreError) -> None:
        log.warning("a commit failed", reason=str(error))
        self._core.commit_failed(str(error), self._loop.time())

    async def load(self, effect: LoadRecords) -> None:
        """Read records that a peer lacks."""
        try:
            found = await self._journal.load(effect.origin, effect.after, effect.upto)
        except StoreError as error:
            log.warning("records could not be read for a peer", peer=effect.address, reason=str(error))
            self._core.loaded(effect.address, None, self._loop.time())
        else:
            self._core.loaded(effect.address, found, self._loop.time())

    async def find_key(self, key: str) -> None:
        """Look up the message of an idempotency key."""
        try:
            claim = await self._journal.find_key(key)
        except StoreError as error:
            self._core.key_found(key, "", "", self._loop.time(), failed=str(error))
            return
        self._core.key_found(key, *((claim.message_id, claim.digest) if claim else ("", "")), self._loop.time())

    async def begin_incarnation(self) -> None:
        """Draw a new incarnation and store it; after a failure the core asks again."""
        with contextlib.suppress(StoreError):
            self._core.begin_incarnation(await self._journal.new_incarnation(), self._loop.time())

    def give_up(self, reason: str) -> None:
        """Mark the journal as unusable, which ends the node; only the first reason is kept."""
        self._journal.why = self._journal.why or reason[:300]
        self._journal.broken.set()
