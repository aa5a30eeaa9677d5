"""Group commit: what several greenlets want at once travels as one request.

A batch costs three nodes about 3 ms, however much is in it, and a message in it 0.05 ms. So a batch leaves when the
loop has nothing else to do: requests that have arrived, and answers that let clients send more, come first. A single
client does not wait, and 32 busy ones travel together.
"""

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

from common.sequences import chunks
from facade.server.scheduler import Scheduler

BATCHES = 2  # on their way at once: while they are, the next one fills
BATCH_ITEMS = 200  # some milliseconds for a node
FILLING_S = 0.01  # the longest wait of a batch for an idle loop

Item = TypeVar("Item")
Answer = TypeVar("Answer")


@dataclass(slots=True, eq=False)
class _Waiting(Generic[Item, Answer]):
    """An item, and how it will be answered."""

    item: Item
    answer: "asyncio.Future[Callable[[Item], Answer]]"


class Batcher(Generic[Item, Answer]):
    """Sends the items that wait when the loop is idle; while BATCHES are on their way, items wait for the next one.

    Args:
        scheduler: of the greenlets.
        send: sends many items and returns how each is answered: a function of the item, which may raise.
        weight: of an item.
        most_weight: of one batch, or a single item that is heavier.
        batches: on their way at once.
        most_items: of one batch.
    """

    def __init__(
        self,
        scheduler: Scheduler,
        send: Callable[[Sequence[Item]], Callable[[Item], Answer]],
        *,
        weight: Callable[[Item], int],
        most_weight: int,
        batches: int = BATCHES,
        most_items: int = BATCH_ITEMS,
    ) -> None:
        self._scheduler = scheduler
        self._send = send
        self._weight = weight
        self._most_weight = most_weight
        self._free = batches
        self._most_items = most_items
        self._waiting: list[_Waiting[Item, Answer]] = []
        self._due = False

    def ask(self, item: Item, *, timeout_s: float) -> Answer:
        """The answer to one item.

        Raises:
            TimeoutError: no batch took it in time; it was not sent.
            Exception: what `send` or its function raises.
        """
        own: _Waiting[Item, Answer] = _Waiting(item, self._scheduler.create_future())
        self._waiting.append(own)
        self._leave_when_idle()
        try:
            answer = self._scheduler.wait(own.answer, timeout_s)
        except TimeoutError:
            if own in self._waiting:
                self._waiting.remove(own)
                raise
            answer = self._scheduler.wait(own.answer)  # it is on its way: `send` has a deadline
        return answer(item)

    def _leave_when_idle(self) -> None:
        if self._waiting and not self._due:
            self._due = True
            self._scheduler.when_idle(self._leave, FILLING_S)

    def _leave(self) -> None:
        """Send what waits, as far as batches are free."""
        self._due = False
        while self._free and self._waiting:
            batch = next(
                chunks(
                    self._waiting, lambda one: self._weight(one.item), lift=self._most_weight, seats=self._most_items
                )
            )
            self._waiting = self._waiting[len(batch) :]
            self._free -= 1
            self._scheduler.begin(self._carry, batch)

    def _carry(self, batch: "list[_Waiting[Item, Answer]]") -> None:
        try:
            answer = self._send([one.item for one in batch])
        except Exception as error:
            for one in batch:
                one.answer.set_exception(error)
        else:
            for one in batch:
                one.answer.set_result(answer)
        finally:
            self._free += 1
            self._leave_when_idle()
