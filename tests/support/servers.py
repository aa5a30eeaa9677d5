"""A real server in a thread of its own, and what it answers with."""

import asyncio
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from common.errors import (
    StoreError,
)
from common.protocol.codec import Reply, Request
from common.protocol.messages import Code, Description, Failure, Lookup, Ping, State, Status
from common.rpc.handler import Handler
from common.rpc.server import Server
from scripts.launcher.ports import free_addresses

READY = Status(service="test", state=State.READY)


async def handle(request: Request) -> Reply:
    """Answers Ping and Describe; breaks in different ways for names."""
    match request:
        case Ping():
            return READY
        case Lookup(name="store"):
            raise StoreError("the store is away")
        case Lookup(name="defect"):
            raise ZeroDivisionError
        case Lookup(name="hang"):
            await asyncio.Event().wait()
        case Lookup(name="refuse"):
            return Failure(code=Code.STARTING, reason="not yet")
    return Description(text="hi")


@contextmanager
def serving(handler: Handler, *, address: str | None = None, **limits: Any) -> Iterator[str]:
    """A real Server, perhaps with other limits, in a thread of its own; its address. Drained at the end."""
    listening = address or free_addresses(1)[0]
    started = threading.Event()
    control: list[tuple[asyncio.AbstractEventLoop, asyncio.Event]] = []

    async def serve() -> None:
        stop = asyncio.Event()
        server = Server(listening, handler, **limits)
        control.append((asyncio.get_running_loop(), stop))
        started.set()
        await server.serve(stop)

    thread = threading.Thread(target=asyncio.run, args=(serve(),))
    thread.start()
    assert started.wait(5.0)
    try:
        yield listening
    finally:
        loop, stop = control[0]
        loop.call_soon_threadsafe(stop.set)
        thread.join()
