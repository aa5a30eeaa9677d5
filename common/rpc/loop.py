"""The subset of asyncio's event loop interface that our code uses; a facade's scheduler implements it, too."""

import asyncio
from collections.abc import Callable
from typing import Any, Protocol


class Handle(Protocol):
    """A scheduled callback."""

    def cancel(self) -> None:
        """Cancel the callback."""


class Loop(Protocol):
    """An event loop as a Pipeline uses it; asyncio documents the methods."""

    def create_future(self) -> "asyncio.Future[Any]":
        """A new future of this loop."""

    def call_soon(self, callback: Callable[..., object], *arguments: Any) -> object:
        """Run the callback in the next iteration of the loop."""

    def call_later(self, delay_s: float, callback: Callable[..., object], *arguments: Any) -> Handle:
        """Run the callback after `delay_s` seconds."""

    def add_reader(self, descriptor: int, callback: Callable[[], object]) -> object:
        """Run the callback whenever a descriptor is readable."""

    def remove_reader(self, descriptor: int) -> object:
        """Stop watching a descriptor."""
