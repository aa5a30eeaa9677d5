"""What our own code needs of the event loop of its process: asyncio's, or that of a facade."""

import asyncio
from collections.abc import Callable
from typing import Any, Protocol


class Handle(Protocol):
    """Something to do later."""

    def cancel(self) -> None:
        """Do not do it."""


class Loop(Protocol):
    """What a pipeline needs of the loop of its process, as asyncio's loops have it."""

    def create_future(self) -> "asyncio.Future[Any]":
        """What is not known yet."""

    def call_soon(self, callback: Callable[..., object], *arguments: Any) -> object:
        """Do something in the next turn."""

    def call_later(self, delay_s: float, callback: Callable[..., object], *arguments: Any) -> Handle:
        """Do something after a time."""

    def add_reader(self, descriptor: int, callback: Callable[[], object]) -> object:
        """Do something whenever a descriptor is readable."""

    def remove_reader(self, descriptor: int) -> object:
        """Not any more."""
