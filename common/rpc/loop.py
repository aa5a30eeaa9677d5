"""The part of an event loop's interface that our code uses: asyncio's loop or a facade's scheduler has it."""

import asyncio
from collections.abc import Callable
from typing import Any, Protocol


class Handle(Protocol):
    """A scheduled callback."""

    def cancel(self) -> None:
        """Drop the callback."""


class Loop(Protocol):
    """An event loop, as a pipeline uses it; see asyncio for the methods."""

    def create_future(self) -> "asyncio.Future[Any]":
        """A future of this loop."""

    def call_soon(self, callback: Callable[..., object], *arguments: Any) -> object:
        """Call back in the next turn."""

    def call_later(self, delay_s: float, callback: Callable[..., object], *arguments: Any) -> Handle:
        """Call back after a time."""

    def add_reader(self, descriptor: int, callback: Callable[[], object]) -> object:
        """Call back whenever a descriptor is readable."""

    def remove_reader(self, descriptor: int) -> object:
        """Stop watching a descriptor."""
