"""`python -m tests.without PART[+PART…] -- COMMAND`: a process of ours without parts of it, to measure their cost.

COMMAND is what the launcher starts, `python -m MODULE ...`.
"""

import logging
import runpy
import sys

import structlog

from common import logs
from facade import presence
from facade.metrics import FacadeMetrics
from facade.watch import Watch
from nodes.journal import Journal
from nodes.metrics import NodeMetrics
from nodes.observers import NOBODY
from nodes.peers import Peers
from nodes.replicated import ReplicatedStore


async def _nothing(*_args: object, **_kwargs: object) -> None:
    """Done."""


def _at_once(*_args: object, **_kwargs: object) -> None:
    """Done."""


def _leave_out(part: str) -> None:
    match part:
        case "journal":
            Journal.append = _nothing  # type: ignore[method-assign]
            Journal.append_all = _nothing  # type: ignore[method-assign]
        case "shipping":
            Peers._fetch_beside = _nothing  # type: ignore[method-assign]
        case "settling":
            ReplicatedStore.settle = _nothing  # type: ignore[method-assign]
        case "logs":
            silent = structlog.make_filtering_bound_logger(logging.CRITICAL)
            logs.configure = lambda *_: structlog.configure(wrapper_class=silent)
        case "metrics":
            FacadeMetrics.began = FacadeMetrics.ended = _at_once  # type: ignore[method-assign]
            NodeMetrics.measured = lambda _, handler: handler  # type: ignore[assignment, method-assign]
            NodeMetrics.observers = NOBODY  # type: ignore[assignment, method-assign]
        case "watch":
            Watch.run = presence.run = _at_once  # type: ignore[method-assign]
        case _:
            sys.exit(f"there is no part {part!r} that can be left out")


if __name__ == "__main__":
    _, part, _, _python, _m, module, *arguments = sys.argv
    for one in part.split("+"):
        _leave_out(one)
    sys.argv = [module, *arguments]
    runpy.run_module(module, run_name="__main__", alter_sys=True)
